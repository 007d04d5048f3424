"""Retrieval metrics of both directions, by the protocols of the field.

t2v: each caption is a query among all videos. v2t: each video is a query among the videos' caption
sets, and a set's score is that of its best caption (the MSVD protocol; with one caption a video it
is the usual rank). A rank counts every competitor that scores as high as the truth: ties count
against the model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

RECALL_AT = (1, 5, 10, 50)
METRICS = (*(f"R{k}" for k in RECALL_AT), "MdR", "MnR")


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrievalRanks:
    """Rank of the truth for each query, from 1."""

    t2v: Int[np.ndarray, " num_texts"]
    """For each text, the rank of its video."""

    v2t: Int[np.ndarray, " num_videos"]
    """For each video, the rank of its captions among all videos' captions."""

    video_of_text: Int[np.ndarray, " num_texts"]
    """The right video of each text."""


def retrieval_ranks(
    scores: Float[np.ndarray, "num_texts num_videos"],
    video_of_text: Int[np.ndarray, " num_texts"],
    *,
    v2t_scores: Float[np.ndarray, "num_texts num_videos"] | None = None,
    text_names: Sequence[str] | None = None,
    video_names: Sequence[str] | None = None,
) -> RetrievalRanks:
    """The ranks of both directions; video_of_text[t] is the column of text t's right video.

    v2t_scores are other scores for that direction, as after-processing makes them. The names say in
    errors which text or video is meant; without them it is the index. Raises ValueError for scores
    that are not finite, shapes that do not fit, a text of an unknown video, or a video without one.
    """
    scores, video_of_text = np.asarray(scores), np.asarray(video_of_text)
    if scores.ndim != 2 or not scores.size:
        raise ValueError(
            f"scores must be [num_texts, num_videos], none of them 0, not {list(scores.shape)}"
        )
    num_texts, num_videos = scores.shape
    if video_of_text.shape != (num_texts,):
        raise ValueError(
            f"video_of_text must be [{num_texts}], a video for each row of scores, "
            f"not {list(video_of_text.shape)}"
        )
    texts, videos = _labels(text_names, num_texts), _labels(video_names, num_videos)
    unknown = np.flatnonzero((video_of_text < 0) | (video_of_text >= num_videos))
    if len(unknown):
        raise ValueError(
            f"{len(unknown)} texts are of unknown videos, the first text {texts[unknown[0]]} "
            f"of video {video_of_text[unknown[0]]}, where videos are 0 to {num_videos - 1}"
        )
    silent = np.flatnonzero(np.bincount(video_of_text, minlength=num_videos) == 0)
    if len(silent):
        raise ValueError(
            f"{len(silent)} videos have no text, the first of them video {videos[silent[0]]}"
        )
    if v2t_scores is None:
        v2t_scores = scores
    elif v2t_scores.shape != scores.shape:
        raise ValueError(f"v2t_scores have shape {v2t_scores.shape}, and scores {scores.shape}")
    for matrix in (scores, v2t_scores):
        _check_finite(matrix, texts, videos)

    truth = scores[np.arange(num_texts), video_of_text]
    t2v = (scores >= truth[:, None]).sum(axis=1)
    by_video = np.argsort(video_of_text, kind="stable")
    starts = np.searchsorted(video_of_text[by_video], np.arange(num_videos))
    set_scores = np.maximum.reduceat(v2t_scores[by_video], starts, axis=0)  # [text set, video]
    v2t = (set_scores >= set_scores.diagonal()).sum(axis=0)
    return RetrievalRanks(t2v=t2v, v2t=v2t, video_of_text=video_of_text)


def retrieval_metrics(
    scores: Float[np.ndarray, "num_texts num_videos"],
    video_of_text: Int[np.ndarray, " num_texts"],
    *,
    text_names: Sequence[str] | None = None,
    video_names: Sequence[str] | None = None,
) -> dict[str, float]:
    """`t2v/R1` to `v2t/MnR`: recalls in percent, median and mean rank. Raises as the ranks do."""
    ranks = retrieval_ranks(scores, video_of_text, text_names=text_names, video_names=video_names)
    return metrics_of_ranks(ranks)


def metrics_of_ranks(ranks: RetrievalRanks) -> dict[str, float]:
    """`t2v/R1` to `v2t/MnR`: recalls in percent, median and mean rank."""
    return {
        f"{direction}/{name}": _metric(name)(values)
        for direction, values in (("t2v", ranks.t2v), ("v2t", ranks.v2t))
        for name in METRICS
    }


def chance_metrics(video_of_text: Int[np.ndarray, " num_texts"]) -> dict[str, float]:
    """What a model that orders the videos at random reaches on average, exactly for each metric.

    t2v: the rank is uniform over the videos. v2t: likewise where every video has as many captions
    as any other; otherwise this is the approximation.
    """
    num_videos = int(np.max(video_of_text)) + 1
    ranks = np.arange(1, num_videos + 1)
    values = {name: _metric(name)(ranks) for name in METRICS}
    return {f"{d}/{name}": value for d in ("t2v", "v2t") for name, value in values.items()}


def _metric(name: str) -> Callable[[Int[np.ndarray, " num_queries"]], float]:
    if name == "MdR":
        return lambda ranks: float(np.median(ranks))
    if name == "MnR":
        return lambda ranks: float(np.mean(ranks))
    k = int(name.removeprefix("R"))
    return lambda ranks: 100.0 * float(np.mean(ranks <= k))


def _labels(names: Sequence[str] | None, count: int) -> list[str]:
    return [str(i) for i in range(count)] if names is None else [repr(name) for name in names]


def _check_finite(
    scores: Float[np.ndarray, "num_texts num_videos"], texts: list[str], videos: list[str]
) -> None:
    bad = ~np.isfinite(scores)
    if not bad.any():
        return
    row, column = np.argwhere(bad)[0]
    message = (
        f"{bad.sum()} of {bad.size} scores are not finite, the first {scores[row, column]} "
        f"of text {texts[row]} with video {videos[column]}"
    )
    whole_rows, whole_columns = bad.all(axis=1).nonzero()[0], bad.all(axis=0).nonzero()[0]
    if len(whole_rows) and len(videos) > 1:
        message += f"; all scores of text {texts[whole_rows[0]]} (row {whole_rows[0]})"
    if len(whole_columns) and len(texts) > 1:
        message += f"; all scores of video {videos[whole_columns[0]]} (column {whole_columns[0]})"
    raise ValueError(message)
