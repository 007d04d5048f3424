"""How much of a metric, or of the difference of two runs, the choice of test videos explains.

Test sets are resampled by videos, each with all its captions, since the captions of a video share
its difficulty.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from jaxtyping import Float, Int

from xpool.metrics import RECALL_AT, RetrievalRanks, metrics_of_ranks

VALUES_AT_ONCE = 2**20
"""Counts of resampled test sets in memory at a time."""


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
class Recalls:
    """Recalls in percent with their 95 % bootstrap intervals; NaN where there are no queries."""

    values: Float[np.ndarray, " num_recalls"]
    low: Float[np.ndarray, " num_recalls"]
    high: Float[np.ndarray, " num_recalls"]


def recall_curves(
    ranks: RetrievalRanks, *, max_k: int, num_resamples: int = 1000, seed: int = 0
) -> dict[str, Recalls]:
    """R@K of `t2v` and `v2t` for every K from 1 to max_k, as `bootstrap_intervals` has them."""
    num_videos = len(ranks.v2t)
    curves = {}
    for direction, values, video_of_query in _directions(ranks):
        cells = video_of_query * (max_k + 2) + np.minimum(values, max_k + 1)
        by_rank = np.bincount(cells, minlength=num_videos * (max_k + 2))
        up_to = by_rank.reshape(num_videos, max_k + 2).cumsum(axis=1)
        curves[direction] = _recalls(
            up_to[:, 1 : max_k + 1], up_to[:, -1:], num_resamples=num_resamples, seed=seed
        )
    return curves


def recalls_by_slice(
    ranks: Int[np.ndarray, " num_queries"],
    video_of_query: Int[np.ndarray, " num_queries"],
    slice_of_query: Int[np.ndarray, " num_queries"],
    *,
    k: int = 1,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Recalls:
    """R@k of each slice of the queries, 0 to the highest; slices may share videos.

    Test sets in which a slice has no query do not count for its interval.
    """
    num_videos, num_slices = int(video_of_query.max()) + 1, int(slice_of_query.max()) + 1
    cells = video_of_query * num_slices + slice_of_query
    queries, hits = (
        np.bincount(cells[rows], minlength=num_videos * num_slices).reshape(num_videos, num_slices)
        for rows in (slice(None), ranks <= k)
    )
    return _recalls(hits, queries, num_resamples=num_resamples, seed=seed)


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


def _directions(ranks: RetrievalRanks) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """The ranks of each direction's queries, and the videos that these belong to."""
    yield "t2v", ranks.t2v, ranks.video_of_text
    yield "v2t", ranks.v2t, np.arange(len(ranks.v2t))


def _recalls(
    hits: Int[np.ndarray, "num_videos num_recalls"],
    queries: Int[np.ndarray, "num_videos _"],
    *,
    num_resamples: int,
    seed: int,
) -> Recalls:
    """Of hits and queries of each video, or of queries that all recalls share."""
    hits, queries = hits.astype(np.float64), queries.astype(np.float64)
    resamples = _resamples(len(hits), num_resamples, seed)
    at_once = max(1, VALUES_AT_ONCE // len(hits))
    resampled = []
    with np.errstate(invalid="ignore"):  # 0 of 0 queries
        while some := list(islice(resamples, at_once)):
            counts = np.stack(some).astype(np.float64)
            resampled.append((counts @ hits) / (counts @ queries))
        values = hits.sum(axis=0) / queries.sum(axis=0)
    drawn = np.concatenate(resampled)
    ends = np.full((2, hits.shape[1]), np.nan)
    known = np.isfinite(drawn).any(axis=0)
    ends[:, known] = np.nanpercentile(drawn[:, known], [2.5, 97.5], axis=0)
    return Recalls(values=100 * values, low=100 * ends[0], high=100 * ends[1])


def _weighted_metrics(
    ranks: RetrievalRanks, counts: Int[np.ndarray, " num_videos"]
) -> dict[str, float]:
    """The metrics of a test set that holds each video so many times."""
    metrics = {}
    for direction, values, video_of_query in _directions(ranks):
        weights = counts[video_of_query]
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
