"""What rank 0 records when training is over: the report, figures, checkpoints."""

import pyarrow as pa

from xpool.pooling import Pooling
from xpool_platform.checkpoint import CONFIG, STATE, WEIGHTS, CheckpointKeeper
from xpool_platform.config import ExperimentConfig
from xpool_platform.evaluate.attention import caption_attention
from xpool_platform.evaluate.encode import SplitEmbeds
from xpool_platform.evaluate.measure import retrieval_report
from xpool_platform.report import RetrievalReport
from xpool_platform.tracking.figures import attention_figure
from xpool_platform.tracking.tracker import Tracker


def record_final_report(
    *,
    config: ExperimentConfig,
    pooling: Pooling,
    videos: pa.Table,
    embeds: SplitEmbeds,
    keeper: CheckpointKeeper,
    tracker: Tracker,
    step: int,
) -> RetrievalReport:
    """Report on the best checkpoint, whose embeddings these are, and log all that belongs to it.

    `step` is the last of the training, so that MLflow shows these metrics as the run's latest.
    """
    assert keeper.best is not None
    split = config.eval.split
    report = retrieval_report(split, pooling, embeds, num_resamples=config.eval.num_resamples)
    metrics = {f"{split}/{key}": value for key, value in report.metrics.items()}
    for key, (low, high) in report.intervals.items():
        metrics |= {f"{split}/{key}_low": low, f"{split}/{key}_high": high}
    best = keeper.best[1]
    metrics |= {"best/step": best.step, f"best/{config.train.select_on}/t2v/R1": best.score}
    tracker.log_metrics({step: metrics})
    if config.eval.num_figures:
        rows = caption_attention(
            pooling,
            videos,
            embeds,
            num_captions=config.eval.num_figures,
            num_frames=config.data.num_frames,
        )
        tracker.log_figure(attention_figure(rows), "attention.png")
    if config.tracking.log_checkpoints:
        for name, entry in (("best", keeper.best), ("last", keeper.last)):
            assert entry is not None
            for file in (WEIGHTS, CONFIG, STATE):
                tracker.log_artifact(entry[0] / file, f"checkpoints/{name}")
    tracker.flush()
    return report
