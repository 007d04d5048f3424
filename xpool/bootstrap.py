"""How much of a metric, or of the difference of two runs, the choice of test videos explains.

Test sets are resampled by videos, each with all its captions, since the captions of a video share
its difficulty.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from xpool.metrics import RECALL_AT, RetrievalRanks, metrics_of_ranks


def bootstrap_intervals(
    ranks: RetrievalRanks, *, num_resamples: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % intervals of each metric, by the percentiles of resampled test sets.

    Videos are drawn with replacement, each with all its captions, since the captions of a video
    share its difficulty.
    """
    resampled: dict[str, list[float]] = {}
    for counts in _resamples(len(ranks.v2t), num_resamples, seed):
        for key, value in _weighted_metrics(ranks, counts).items():
            resampled.setdefault(key, []).append(value)
    return {key: _interval(values) for key, values in resampled.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedDifference:
    """How far one run is from another on the same queries, in the metric's own unit."""

    difference: float
    """This run minus the other."""

    low: float
    """Lower end of the 95 % bootstrap interval of the difference."""

    high: float
    """Its upper end."""

    p_value: float
    """Two-sided: twice the share of resampled test sets in which the difference changes sign."""


def paired_bootstrap(
    ranks: RetrievalRanks, other: RetrievalRanks, *, num_resamples: int = 10_000, seed: int = 0
) -> dict[str, PairedDifference]:
    """Whether two runs differ by more than the choice of test videos explains, for each metric.

    Both runs are measured on the same resampled test sets, so that what is hard for both cancels.
    Source: Efron and Tibshirani 1993, chapters 13 and 15. Raises ValueError if the runs do not rank
    the same queries.
    """
    if not np.array_equal(ranks.video_of_text, other.video_of_text):
        raise ValueError(
            f"the two runs do not rank the same queries: {len(ranks.t2v)} texts of "
            f"{len(ranks.v2t)} videos, and {len(other.t2v)} of {len(other.v2t)}"
        )
    differences: dict[str, list[float]] = {}
    for counts in _resamples(len(ranks.v2t), num_resamples, seed):
        theirs = _weighted_metrics(other, counts)
        for key, value in _weighted_metrics(ranks, counts).items():
            differences.setdefault(key, []).append(value - theirs[key])
    ours, theirs = metrics_of_ranks(ranks), metrics_of_ranks(other)
    results = {}
    for key, values in differences.items():
        low, high = _interval(values)
        opposed = min(np.sum(np.array(values) <= 0), np.sum(np.array(values) >= 0))
        results[key] = PairedDifference(
            difference=ours[key] - theirs[key],
            low=low,
            high=high,
            p_value=min(1.0, 2 * float(opposed + 1) / (num_resamples + 1)),
        )
    return results


def _resamples(
    num_videos: int, num_resamples: int, seed: int
) -> Iterator[Int[np.ndarray, " num_videos"]]:
    """How often each video is in each resampled test set."""
    rng = np.random.default_rng(seed)
    for _ in range(num_resamples):
        yield np.bincount(rng.integers(num_videos, size=num_videos), minlength=num_videos)


def _weighted_metrics(
    ranks: RetrievalRanks, counts: Int[np.ndarray, " num_videos"]
) -> dict[str, float]:
    """The metrics of a test set that holds each video so many times."""
    metrics = {}
    for direction, values, weights in (
        ("t2v", ranks.t2v, counts[ranks.video_of_text]),
        ("v2t", ranks.v2t, counts),
    ):
        histogram = np.bincount(values, weights=weights, minlength=max(RECALL_AT) + 1)
        up_to = np.cumsum(histogram)
        total = up_to[-1]
        for k in RECALL_AT:
            metrics[f"{direction}/R{k}"] = 100.0 * float(up_to[k] / total)
        middle = np.searchsorted(up_to, [(total - 1) // 2, total // 2], side="right")
        metrics[f"{direction}/MdR"] = float(middle.mean())
        metrics[f"{direction}/MnR"] = float(histogram @ np.arange(len(histogram)) / total)
    return metrics


def _interval(values: Sequence[float]) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
