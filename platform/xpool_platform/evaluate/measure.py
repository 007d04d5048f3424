"""From a split's embeddings to its ranks and metrics."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from xpool.bootstrap import bootstrap_intervals
from xpool.metrics import RetrievalRanks, chance_metrics, metrics_of_ranks, retrieval_ranks
from xpool.pooling import Pooling
from xpool.postprocessing import dual_softmax, qb_norm
from xpool.scoring import score_matrix
from xpool_platform.evaluate.encode import SplitEmbeds
from xpool_platform.report import RetrievalReport

PLAIN, DUAL_SOFTMAX, QB_NORM = "plain", "dual_softmax", "qb_norm"


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """All that was found out about a split."""

    report: RetrievalReport
    scores: Float[np.ndarray, "num_texts num_videos"]
    ranks: dict[str, RetrievalRanks]
    """By plain scores, and after dual softmax and QB-Norm; that one has no v2t of its own."""


def split_metrics(pooling: Pooling, embeds: SplitEmbeds) -> dict[str, float]:
    """The metrics alone, for selection during training."""
    scores = score_matrix(pooling, embeds.text_embeds, embeds.frame_embeds).cpu().numpy()
    return metrics_of_ranks(retrieval_ranks(scores, embeds.video_of_text))


def measure_split(
    pooling: Pooling,
    embeds: SplitEmbeds,
    *,
    split: str,
    scale: float,
    texts: Sequence[str],
    video_ids: Sequence[str],
    num_resamples: int,
    num_missing: int,
    bank_embeds: Tensor | None = None,
) -> Measured:
    """Ranks and metrics with intervals and chance, plain and after-processed.

    `scale` is the model's, for dual softmax; bank_embeds are those of QB-Norm's texts. Raises
    ValueError, naming the caption or video, for scores that are not finite.
    """
    scores = score_matrix(pooling, embeds.text_embeds, embeds.frame_embeds).cpu().numpy()
    plain = retrieval_ranks(scores, embeds.video_of_text, text_names=texts, video_names=video_ids)
    ranks = {PLAIN: plain}
    ranks[DUAL_SOFTMAX] = retrieval_ranks(
        dual_softmax(scores, scale),
        embeds.video_of_text,
        v2t_scores=dual_softmax(scores.T, scale).T,
    )
    if bank_embeds is not None:
        bank_scores = score_matrix(pooling, bank_embeds, embeds.frame_embeds).cpu().numpy()
        ranks[QB_NORM] = retrieval_ranks(
            qb_norm(scores, bank_scores), embeds.video_of_text, v2t_scores=scores
        )
    metrics: dict[str, dict[str, float]] = {}
    intervals: dict[str, dict[str, tuple[float, float]]] = {}
    for method, found in ranks.items():
        metrics[method] = metrics_of_ranks(found)
        intervals[method] = bootstrap_intervals(found, num_resamples=num_resamples)
    processed = [
        (method, key)
        for method in ranks
        for key in metrics[method]
        if method == DUAL_SOFTMAX or (method == QB_NORM and key.startswith("t2v/"))
    ]
    report = RetrievalReport(
        split=split,
        num_videos=scores.shape[1],
        num_captions=scores.shape[0],
        num_missing=num_missing,
        metrics=metrics[PLAIN],
        intervals=intervals[PLAIN],
        chance=chance_metrics(embeds.video_of_text),
        processed_metrics={f"{method}/{key}": metrics[method][key] for method, key in processed},
        processed_intervals={
            f"{method}/{key}": intervals[method][key] for method, key in processed
        },
    )
    return Measured(report=report, scores=scores, ranks=ranks)
