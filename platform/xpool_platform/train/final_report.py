"""What rank 0 records when training is over: the report, figures, checkpoints."""

from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from xpool.model import XPool
from xpool_platform.checkpoint import CheckpointKeeper
from xpool_platform.evaluate.encode import SplitEmbeds
from xpool_platform.evaluate.measure import measure_split
from xpool_platform.evaluate.recorded_results import record_results, training_history
from xpool_platform.report import RetrievalReport
from xpool_platform.tracking.tracker import Tracker
from xpool_platform.train.job import TrainingJob


def record_final_report(
    *,
    job: TrainingJob,
    after_step: int,
    model: XPool,
    videos: pa.Table,
    embeds: SplitEmbeds,
    keeper: CheckpointKeeper,
    tracker: Tracker,
) -> RetrievalReport:
    """Report on the best checkpoint, which the model is, and log all that belongs to it.

    Its metrics are logged for after_step, the training's last, so that MLflow shows them as latest.
    """
    best = keeper.best
    assert best is not None
    config, split, run_dir = job.config, job.config.eval.split, Path(job.run_dir)
    measured = measure_split(
        model,
        embeds,
        videos,
        config.eval,
        num_missing=job.num_missing,
        selected_on=config.train.select_on,
    )
    report = measured.report
    history = training_history(run_dir) | {"best/step": [(after_step, float(best))]}
    metrics = {f"{split}/{key}": value for key, value in report.flat_metrics().items()}
    score = keeper.states[best].score
    assert score is not None
    metrics |= {"best/step": best, f"best/{config.train.select_on}/t2v/R1": score}
    tracker.log_metrics({after_step: metrics})
    if after_step < job.num_steps:
        tracker.set_tags({"stopped_early": f"after step {after_step} of {job.num_steps}"})
    record_results(
        measured,
        model=model,
        videos=videos,
        embeds=embeds,
        config=config,
        summary={
            "experiment": config.name,
            "checkpoint": keeper.of_step(best),
            **asdict(report),
        },
        history=history,
        tracker=tracker,
        run_dir=run_dir,
    )
    if config.tracking.log_checkpoints:
        for name, step in (("best", best), ("last", keeper.last)):
            tracker.log_checkpoint(keeper.of_step(step), name)
    return report
