"""A loss that is no number stops the run, and the message says of which batch it is."""

import math
from collections.abc import Sequence

import pyarrow.compute as pc

from xpool_platform.data.plan import BatchPlan
from xpool_platform.errors import UserError
from xpool_platform.train.job import TrainingJob
from xpool_platform.train.step_log import Row


def check_finite(job: TrainingJob, step: int, rows: Sequence[Row]) -> None:
    """Raise UserError for the first of the steps up to `step` whose loss is no number."""
    for row, at in zip(rows, range(step - len(rows) + 1, step + 1), strict=True):
        loss, norm = float(row["train/loss"]), float(row["train/grad_norm"])
        if math.isfinite(loss) and math.isfinite(norm):
            continue
        rates = {k.removeprefix("train/lr_"): v for k, v in row.items() if "/lr_" in k}
        named = ", ".join(f"{name} {float(rate):.3g}" for name, rate in rates.items())
        raise UserError(
            f"the loss is {loss:g} and the norm of its gradient {norm:g} at step {at} (learning "
            f"rates: {named}; videos: {', '.join(_videos_of(job, at))}); lower --optim.clip-lr and "
            "--optim.pooling-lr, or leave such steps out by --train.on-nan skip; the checkpoints "
            f"before it are in {job.checkpoints}"
        )


def _videos_of(job: TrainingJob, step: int) -> list[str]:
    videos, train = job.videos_of("train"), job.config.train
    counts = pc.list_value_length(videos["captions"]).to_pylist()
    plan = BatchPlan(counts, min(train.batch_size, len(videos)), train.seed)
    return [videos["video_id"][int(video)].as_py() for video in plan.batch(step - 1)[:, 0]]
