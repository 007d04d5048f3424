"""What rank 0 records when training is over: the report, figures, checkpoints."""

from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from xpool.model import XPool
from xpool_platform.checkpoint import CheckpointKeeper
from xpool_platform.checkpoint_files import CONFIG, STATE, WEIGHTS
from xpool_platform.evaluate.attention import split_attention_figure
from xpool_platform.evaluate.encode import SplitEmbeds
from xpool_platform.evaluate.measure import measure_split
from xpool_platform.evaluate.result_files import write_results
from xpool_platform.report import RetrievalReport
from xpool_platform.tracking.tracker import Tracker
from xpool_platform.train.job import TrainingJob


def record_final_report(
    *,
    job: TrainingJob,
    model: XPool,
    videos: pa.Table,
    embeds: SplitEmbeds,
    keeper: CheckpointKeeper,
    tracker: Tracker,
) -> RetrievalReport:
    """Report on the best checkpoint, which the model is, and log all that belongs to it.

    The metrics are those of the training's last step, so that MLflow shows them as its latest.
    """
    assert keeper.best is not None
    config, split = job.config, job.config.eval.split
    measured = measure_split(
        model,
        embeds,
        videos,
        config.eval,
        num_missing=job.num_missing,
        selected_on=config.train.select_on,
    )
    report = measured.report
    summary = {"experiment": config.name, "checkpoint": str(keeper.best[0]), **asdict(report)}
    for path in write_results(Path(job.run_dir), summary, measured.table, scores=None):
        tracker.log_artifact(path)
    metrics = {f"{split}/{key}": value for key, value in report.flat_metrics().items()}
    best = keeper.best[1]
    metrics |= {"best/step": best.step, f"best/{config.train.select_on}/t2v/R1": best.score}
    tracker.log_metrics({job.num_steps: metrics})
    if config.eval.num_figures:
        figure = split_attention_figure(model.pooling, videos, embeds, config)
        tracker.log_figure(figure, "attention.png")
    if config.tracking.log_checkpoints:
        for name, entry in (("best", keeper.best), ("last", keeper.last)):
            assert entry is not None
            for file in (WEIGHTS, CONFIG, STATE):
                tracker.log_artifact(entry[0] / file, f"checkpoints/{name}")
    tracker.flush()
    return report
