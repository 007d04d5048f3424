"""What rank 0 records when training is over: the report, figures, checkpoints."""

from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from xpool.model import XPool
from xpool_platform.checkpoint import CheckpointKeeper
from xpool_platform.checkpoint_files import CONFIG, STATE, WEIGHTS
from xpool_platform.evaluate.attention import caption_attention
from xpool_platform.evaluate.encode import SplitEmbeds
from xpool_platform.evaluate.measure import measure_split
from xpool_platform.evaluate.result_files import ranks_table, write_results
from xpool_platform.report import RetrievalReport
from xpool_platform.tracking.figures import attention_figure
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
    texts = [text for captions in videos["captions"].to_pylist() for text in captions]
    video_ids = videos["video_id"].to_pylist()
    measured = measure_split(
        model.pooling,
        embeds,
        split=split,
        scale=float(model.logit_scale.exp()),
        texts=texts,
        video_ids=video_ids,
        num_resamples=config.eval.num_resamples,
        num_missing=job.num_missing,
    )
    report = measured.report
    summary = {"experiment": config.name, "checkpoint": str(keeper.best[0]), **asdict(report)}
    table = ranks_table(measured.ranks, measured.scores, video_ids, texts)
    for path in write_results(Path(job.run_dir), summary, table, scores=None):
        tracker.log_artifact(path)
    metrics = {f"{split}/{key}": value for key, value in report.flat_metrics().items()}
    best = keeper.best[1]
    metrics |= {"best/step": best.step, f"best/{config.train.select_on}/t2v/R1": best.score}
    tracker.log_metrics({job.num_steps: metrics})
    if config.eval.num_figures:
        rows = caption_attention(
            model.pooling,
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
