"""What goes from the driver to the training workers, light enough to import on the way.

Ray Train's controller unpickles it too, and would otherwise spend seconds on the model's imports.
"""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray.train
from ray.actor import ActorHandle

from xpool_platform.config import ExperimentConfig
from xpool_platform.data.feed import started_rows


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingJob:
    """All that a worker is told."""

    config: ExperimentConfig
    videos: pa.Table
    """The decoded manifest, all splits."""

    towers: str
    """Fingerprint of frozen towers whose embeddings `videos` names; empty: nothing is cached."""

    num_steps: int
    num_missing: int
    """Videos of the reported split that could not be decoded."""

    run_dir: str
    tracking_uri: str
    run_id: str
    board: ActorHandle


def run_job(arguments: dict[str, TrainingJob]) -> dict[str, Any] | None:
    """The training function of Ray Train."""
    rows = started_rows(ray.train.get_dataset_shard("train"))  # loads while this imports
    from xpool_platform.train.loop import train_worker  # noqa: PLC0415

    return train_worker(arguments["job"], rows)
