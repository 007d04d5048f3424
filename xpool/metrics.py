"""Retrieval metrics of both directions, by the protocols of the field.

t2v: each caption is a query among all videos. v2t: each video is a query among the videos' caption
sets, and a set's score is that of its best caption (the MSVD protocol; with one caption a video it
is the usual rank). A rank counts every competitor that scores as high as the truth: ties count
against the model.
"""

from collections.abc import Callable
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
    scores: Float[np.ndarray, "num_texts num_videos"], video_of_text: Int[np.ndarray, " num_texts"]
) -> RetrievalRanks:
    """The ranks of both directions; video_of_text[t] is the column of text t's right video.

    Raises ValueError for scores that are not finite (naming text and video), shapes that do not
    fit, an index out of range, or a video without a caption.
    """
    scores, video_of_text = np.asarray(scores), np.asarray(video_of_text)
    num_texts, num_videos = scores.shape
    if not num_texts or not num_videos:
        raise ValueError(f"nothing to rank: {num_texts} texts and {num_videos} videos")
    if video_of_text.shape != (num_texts,):
        raise ValueError(f"video_of_text has shape {video_of_text.shape}, not ({num_texts},)")
    bad = np.argwhere(~np.isfinite(scores))
    if len(bad):
        text, video = bad[0]
        raise ValueError(
            f"{len(bad)} scores are not finite, the first {scores[text, video]} "
            f"of text {text} with video {video}"
        )
    if video_of_text.min() < 0 or video_of_text.max() >= num_videos:
        raise ValueError(f"video_of_text must be within 0..{num_videos - 1}")
    captions_per_video = np.bincount(video_of_text, minlength=num_videos)
    if not captions_per_video.all():
        raise ValueError(f"video {int(captions_per_video.argmin())} has no caption")

    truth = scores[np.arange(num_texts), video_of_text]
    t2v = (scores >= truth[:, None]).sum(axis=1)
    set_scores = np.full((num_videos, num_videos), -np.inf, dtype=scores.dtype)
    np.maximum.at(set_scores, video_of_text, scores)  # [caption set, video]
    v2t = (set_scores >= set_scores.diagonal()).sum(axis=0)
    return RetrievalRanks(t2v=t2v, v2t=v2t, video_of_text=video_of_text)


def retrieval_metrics(
    scores: Float[np.ndarray, "num_texts num_videos"], video_of_text: Int[np.ndarray, " num_texts"]
) -> dict[str, float]:
    """`t2v/R1` to `v2t/MnR`: recalls in percent, median and mean rank. Raises as the ranks do."""
    return metrics_of_ranks(retrieval_ranks(scores, video_of_text))


def metrics_of_ranks(ranks: RetrievalRanks) -> dict[str, float]:
    """`t2v/R1` to `v2t/MnR`: recalls in percent, median and mean rank."""
    return {
        f"{direction}/{name}": _metric(name)(values)
        for direction, values in (("t2v", ranks.t2v), ("v2t", ranks.v2t))
        for name in METRICS
    }


def bootstrap_intervals(
    ranks: RetrievalRanks, *, num_resamples: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % intervals of each metric, by the percentiles of resampled test sets.

    Videos are drawn with replacement, each with all its captions, since the captions of a video
    share its difficulty.
    """
    rng = np.random.default_rng(seed)
    num_videos = len(ranks.v2t)
    by_video = np.argsort(ranks.video_of_text, kind="stable")
    counts = np.bincount(ranks.video_of_text, minlength=num_videos)
    captions_of_video = np.split(by_video, np.cumsum(counts)[:-1])
    resampled: dict[str, list[float]] = {}
    for _ in range(num_resamples):
        videos = rng.integers(num_videos, size=num_videos)
        texts = np.concatenate([captions_of_video[v] for v in videos])
        for direction, values in (("t2v", ranks.t2v[texts]), ("v2t", ranks.v2t[videos])):
            for name in METRICS:
                resampled.setdefault(f"{direction}/{name}", []).append(_metric(name)(values))
    return {
        key: (float(np.percentile(values, 2.5)), float(np.percentile(values, 97.5)))
        for key, values in resampled.items()
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
