"""The model that a run leaves behind, to be loaded and used by others."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from xpool_platform.config import ExperimentConfig
from xpool_platform.report import RetrievalReport
from xpool_platform.run_inputs import dataset_records
from xpool_platform.tracking.tracker import ModelRecord

NUM_EXAMPLES = 2


def run_model(
    config: ExperimentConfig,
    report: RetrievalReport,
    videos: pa.Table,
    *,
    checkpoint: str,
    params: Mapping[str, Any],
    prefix: str = "",
) -> ModelRecord:
    """The model of a checkpoint with the metrics of its report, which the run has after a prefix.

    `videos` are those of the reported split, decoded.
    """
    examples = videos.slice(0, NUM_EXAMPLES)
    (data,) = dataset_records(videos, config, {report.split})
    metrics = dict(report.metrics)
    for way in ("t2v", "v2t"):
        low, high = report.intervals[f"{way}/R1"]
        metrics |= {f"{way}/R1_low": low, f"{way}/R1_high": high}
    return ModelRecord(
        name=config.name,
        checkpoint=checkpoint,
        params={name: str(value) for name, value in params.items()},
        metrics={f"{prefix}{report.split}/{key}": value for key, value in metrics.items()},
        measured_on=data,
        texts=[captions[0] for captions in examples["captions"].to_pylist()],
        videos=examples["uri"].to_pylist(),
    )
