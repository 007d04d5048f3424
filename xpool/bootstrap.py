"""How much of a metric, or of the difference of two runs, the choice of test videos explains.

Test sets are resampled by videos, each with all its captions, since the captions of a video share
its difficulty.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from xpool.metrics import RECALL_AT, RetrievalRanks, metrics_of_ranks


def bootstrap_intervals(
    ranks: RetrievalRanks, *, num_resamples: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % intervals of each metric, by the percentiles of resampled test sets.

    Videos are drawn with replacement, each with all its captions, since the captions of a video
    share its difficulty.
    """
    drawn = resampled_metrics(ranks, num_resamples=num_resamples, seed=seed)
    return {key: _interval(values) for key, values in drawn.values.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class ResampledMetrics:
    """The metrics of a run on resampled test sets, the same ones for every run of a seed."""

    ranks: RetrievalRanks
    values: dict[str, Float[np.ndarray, " num_resamples"]]


def resampled_metrics(
    ranks: RetrievalRanks, *, num_resamples: int = 10_000, seed: int = 0
) -> ResampledMetrics:
    """What a run reaches on each resampled test set; what takes the time in comparing runs."""
    values: dict[str, list[float]] = {}
    for counts in _resamples(len(ranks.v2t), num_resamples, seed):
        for key, value in _weighted_metrics(ranks, counts).items():
            values.setdefault(key, []).append(value)
    return ResampledMetrics(ranks=ranks, values={k: np.array(v) for k, v in values.items()})


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
    drawn = [
        resampled_metrics(each, num_resamples=num_resamples, seed=seed) for each in (ranks, other)
    ]
    return paired_differences(*drawn)


def paired_differences(
    drawn: ResampledMetrics, other: ResampledMetrics
) -> dict[str, PairedDifference]:
    """The first run minus the other on the same resampled test sets, for each metric.

    Raises ValueError if the runs do not rank the same queries.
    """
    ranks, theirs = drawn.ranks, other.ranks
    if not np.array_equal(ranks.video_of_text, theirs.video_of_text):
        raise ValueError(
            f"the two runs do not rank the same queries: {len(ranks.t2v)} texts of "
            f"{len(ranks.v2t)} videos, and {len(theirs.t2v)} of {len(theirs.v2t)}"
        )
    metrics, other_metrics = metrics_of_ranks(ranks), metrics_of_ranks(theirs)
    results = {}
    for key, values in drawn.values.items():
        differences = values - other.values[key]
        low, high = _interval(differences)
        opposed = min(np.sum(differences <= 0), np.sum(differences >= 0))
        results[key] = PairedDifference(
            difference=metrics[key] - other_metrics[key],
            low=low,
            high=high,
            p_value=min(1.0, 2 * float(opposed + 1) / (len(differences) + 1)),
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


def _interval(values: Float[np.ndarray, " num_resamples"]) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
