"""What goes from the driver to the training workers, light enough to import on the way.

Ray Train's controller unpickles it too, and would otherwise spend seconds on the model's imports.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray.train
from ray.actor import ActorHandle

from xpool_platform.config import ExperimentConfig
from xpool_platform.data.feed import started_rows
from xpool_platform.train.run_folder import RunFolder

BATCHES = "train"
"""Name of the dataset of batches."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingJob:
    """All that a worker is told."""

    config: ExperimentConfig
    videos: pa.Table
    """The decoded manifest, all splits."""

    towers: str
    """Fingerprint of frozen towers whose embeddings `videos` names; empty: nothing is cached."""

    num_steps: int
    num_evals: int
    until_step: int | None
    """Evaluated step after which the training stands still; None: it goes to the end."""

    num_missing: int
    """Videos of the reported split that could not be decoded."""

    run_dir: str
    folder: RunFolder | None
    """How workers write to run_dir where they do not see it; None: they do."""

    checkpoints: str
    """Where they are written: a folder, or a URI."""

    tracking_uri: str
    run_id: str
    goes_on: bool
    """Whether the run began before."""

    board: ActorHandle[Any]
    resume_from: str = ""
    """The checkpoint at which an interrupted training goes on."""

    first_step: int = 0
    """Steps that it had done."""

    evaluates_beside: bool = False
    """Whether the cluster has room for train.eval_workers beside the training."""

    @property
    def run_name(self) -> str:
        """The run's name."""
        return Path(self.run_dir).name

    def videos_of(self, split: str) -> pa.Table:
        """The videos of a split."""
        return self.videos.filter(pc.equal(self.videos["split"], split))


def evaluation_steps(num_steps: int, num_evals: int) -> list[int]:
    """Steps at even distances, the last at the end."""
    evals = min(num_evals, num_steps)
    return [round(num_steps * (i + 1) / evals) for i in range(evals)]


def run_job(arguments: dict[str, TrainingJob]) -> dict[str, Any] | None:
    """The training function of Ray Train."""
    job = arguments["job"]
    left = job.first_step < job.num_steps
    # loads while this imports
    rows = started_rows(ray.train.get_dataset_shard(BATCHES)) if left else iter(())
    from xpool_platform.train.loop import train_worker  # noqa: PLC0415

    return train_worker(job, rows)
