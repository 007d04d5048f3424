"""How good a model is on a split: metrics, their intervals and chance beside them."""

from dataclasses import dataclass

from xpool.metrics import (
    bootstrap_intervals,
    chance_metrics,
    metrics_of_ranks,
    retrieval_ranks,
)
from xpool.pooling import Pooling
from xpool.scoring import score_matrix
from xpool_platform.evaluate.encode import SplitEmbeds


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrievalReport:
    """The figures of one split. Keys of the dictionaries: `t2v/R1` to `v2t/MnR`."""

    split: str
    num_videos: int
    num_captions: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    """95 % bootstrap intervals."""

    chance: dict[str, float]
    """What a random order reaches."""


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
