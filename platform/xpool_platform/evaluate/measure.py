"""From a split's embeddings to its ranks and metrics."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float
from torch import Tensor

from xpool.bootstrap import bootstrap_intervals
from xpool.metrics import RetrievalRanks, chance_metrics, metrics_of_ranks, retrieval_ranks
from xpool.model import XPool
from xpool.pooling import Pooling
from xpool.postprocessing import dual_softmax, qb_norm
from xpool.scoring import score_matrix
from xpool_platform.config import EvalConfig
from xpool_platform.evaluate.encode import SplitEmbeds
from xpool_platform.report import RetrievalReport
from xpool_platform.result_files import ranks_table

PLAIN, DUAL_SOFTMAX, QB_NORM = "plain", "dual_softmax", "qb_norm"


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """All that was found out about a split."""

    report: RetrievalReport
    scores: Float[np.ndarray, "num_texts num_videos"]
    ranks: dict[str, RetrievalRanks]
    """By plain scores, and after dual softmax and QB-Norm; that one has no v2t of its own."""

    table: pa.Table
    """A row for each query, as `result_files.RANKS_SCHEMA`."""


def split_metrics(pooling: Pooling, embeds: SplitEmbeds, *, num_resamples: int) -> dict[str, float]:
    """The metrics with the ends of their intervals, as `KEY`, `KEY_low` and `KEY_high`, for
    selection during training."""
    scores = score_matrix(pooling, embeds.text_embeds, embeds.frame_embeds).cpu().numpy()
    ranks = retrieval_ranks(scores, embeds.video_of_text)
    metrics = metrics_of_ranks(ranks)
    for key, (low, high) in bootstrap_intervals(ranks, num_resamples=num_resamples).items():
        metrics |= {f"{key}_low": low, f"{key}_high": high}
    return metrics


def measure_split(
    model: XPool,
    embeds: SplitEmbeds,
    videos: pa.Table,
    config: EvalConfig,
    *,
    num_missing: int,
    selected_on: str,
    bank_embeds: Tensor | None = None,
) -> Measured:
    """Ranks and metrics with intervals and chance, plain and after-processed.

    `videos` is the manifest that the embeddings are of, and bank_embeds are those of QB-Norm's
    texts; the scale of dual softmax is the model's. Raises ValueError, naming the caption or video,
    for scores that are not finite.
    """
    texts = [text for captions in videos["captions"].to_pylist() for text in captions]
    video_ids = videos["video_id"].to_pylist()
    pooling, scale = model.pooling, float(model.logit_scale.detach().exp())
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
        intervals[method] = bootstrap_intervals(found, num_resamples=config.num_resamples)
    processed = [
        (method, key)
        for method in ranks
        for key in metrics[method]
        if method == DUAL_SOFTMAX or (method == QB_NORM and key.startswith("t2v/"))
    ]
    report = RetrievalReport(
        split=config.split,
        num_videos=scores.shape[1],
        num_captions=scores.shape[0],
        num_missing=num_missing,
        selected_on=selected_on,
        metrics=metrics[PLAIN],
        intervals=intervals[PLAIN],
        chance=chance_metrics(embeds.video_of_text),
        processed_metrics={f"{method}/{key}": metrics[method][key] for method, key in processed},
        processed_intervals={
            f"{method}/{key}": intervals[method][key] for method, key in processed
        },
    )
    table = ranks_table(ranks, scores, video_ids, texts)
    return Measured(report=report, scores=scores, ranks=ranks, table=table)
