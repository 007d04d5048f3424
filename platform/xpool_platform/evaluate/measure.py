"""From a split's embeddings to its metrics."""

from xpool.bootstrap import bootstrap_intervals
from xpool.metrics import (
    chance_metrics,
    metrics_of_ranks,
    retrieval_ranks,
)
from xpool.pooling import Pooling
from xpool.scoring import score_matrix
from xpool_platform.evaluate.encode import SplitEmbeds
from xpool_platform.report import RetrievalReport


def split_metrics(pooling: Pooling, embeds: SplitEmbeds) -> dict[str, float]:
    """The metrics alone, for selection during training."""
    scores = score_matrix(pooling, embeds.text_embeds, embeds.frame_embeds).cpu().numpy()
    return metrics_of_ranks(retrieval_ranks(scores, embeds.video_of_text))


def retrieval_report(
    split: str, pooling: Pooling, embeds: SplitEmbeds, *, num_resamples: int
) -> RetrievalReport:
    """Metrics with intervals and chance."""
    scores = score_matrix(pooling, embeds.text_embeds, embeds.frame_embeds).cpu().numpy()
    ranks = retrieval_ranks(scores, embeds.video_of_text)
    return RetrievalReport(
        split=split,
        num_videos=scores.shape[1],
        num_captions=scores.shape[0],
        metrics=metrics_of_ranks(ranks),
        intervals=bootstrap_intervals(ranks, num_resamples=num_resamples),
        chance=chance_metrics(embeds.video_of_text),
    )
