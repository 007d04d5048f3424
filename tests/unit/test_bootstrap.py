import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpool.bootstrap import (
    bootstrap_intervals,
    paired_bootstrap,
    paired_differences,
    recall_curves,
    recalls_by_slice,
    resampled_metrics,
)
from xpool.metrics import RECALL_AT, RetrievalRanks, metrics_of_ranks, retrieval_ranks


def test_intervals_hold_the_metric_and_shrink_with_more_videos():
    rng = np.random.default_rng(1)
    widths = []
    for num_videos in (50, 800):
        scores = rng.random((num_videos, num_videos)) + 0.4 * np.eye(num_videos)
        ranks = retrieval_ranks(scores, np.arange(num_videos))
        metrics = metrics_of_ranks(ranks)
        intervals = bootstrap_intervals(ranks, num_resamples=200)
        assert intervals.keys() == metrics.keys()
        low, high = intervals["t2v/R10"]
        assert low <= metrics["t2v/R10"] <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2
    assert bootstrap_intervals(ranks, num_resamples=200) == intervals


@settings(deadline=None, max_examples=50)
@given(num_videos=st.integers(1, 9), extra=st.integers(0, 15), seed=st.integers(0, 2**31))
def test_intervals_are_those_of_test_sets_drawn_one_by_one(num_videos, extra, seed):
    rng = np.random.default_rng(seed)
    video_of_text = rng.permutation(
        np.concatenate([np.arange(num_videos), rng.integers(num_videos, size=extra)])
    )
    ranks = retrieval_ranks(rng.random((len(video_of_text), num_videos)), video_of_text)
    draws = np.random.default_rng(7)
    drawn: dict[str, list[float]] = {}
    for _ in range(20):
        videos = draws.integers(num_videos, size=num_videos)
        texts = np.concatenate([np.flatnonzero(video_of_text == v) for v in videos])
        # only the ranks of this test set count, so what is whose does not matter
        values = RetrievalRanks(
            t2v=ranks.t2v[texts], v2t=ranks.v2t[videos], video_of_text=np.zeros(len(texts), int)
        )
        for key, value in metrics_of_ranks(values).items():
            drawn.setdefault(key, []).append(value)
    for key, interval in bootstrap_intervals(ranks, num_resamples=20, seed=7).items():
        assert interval == pytest.approx(tuple(np.percentile(drawn[key], [2.5, 97.5]))), key


def drawn_one_by_one(values, video_of_query, *, k, num_videos, num_resamples, seed):
    """R@k of each resampled test set, query by query; None where it has none."""
    draws = np.random.default_rng(seed)
    drawn = []
    for _ in range(num_resamples):
        found = [
            rank <= k
            for video in draws.integers(num_videos, size=num_videos)
            for rank, of_video in zip(values, video_of_query, strict=True)
            if of_video == video
        ]
        drawn.append(100 * sum(found) / len(found) if found else None)
    return drawn


@settings(deadline=None, max_examples=30)
@given(
    num_videos=st.integers(1, 9),
    extra=st.integers(0, 15),
    max_k=st.integers(1, 12),
    seed=st.integers(0, 2**31),
)
def test_recall_curves_are_those_of_test_sets_drawn_one_by_one(num_videos, extra, max_k, seed):
    rng = np.random.default_rng(seed)
    video_of_text = rng.permutation(
        np.concatenate([np.arange(num_videos), rng.integers(num_videos, size=extra)])
    )
    ranks = retrieval_ranks(rng.random((len(video_of_text), num_videos)), video_of_text)
    curves = recall_curves(ranks, max_k=max_k, num_resamples=15, seed=3)
    queries = {"t2v": (ranks.t2v, video_of_text), "v2t": (ranks.v2t, range(num_videos))}
    for direction, (values, video_of_query) in queries.items():
        curve = curves[direction]
        assert len(curve.values) == max_k
        for k in range(1, max_k + 1):
            assert curve.values[k - 1] == pytest.approx(100 * np.mean(values <= k))
            drawn = drawn_one_by_one(
                values, video_of_query, k=k, num_videos=num_videos, num_resamples=15, seed=3
            )
            ends = curve.low[k - 1], curve.high[k - 1]
            assert ends == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])))


def test_curves_meet_the_metrics_and_their_intervals():
    ranks = ranks_of(0.5, np.random.default_rng(0).random((300, 300)))
    metrics = metrics_of_ranks(ranks)
    intervals = bootstrap_intervals(ranks, num_resamples=100, seed=5)
    curves = recall_curves(ranks, max_k=50, num_resamples=100, seed=5)
    for direction, curve in curves.items():
        for k in RECALL_AT:
            key = f"{direction}/R{k}"
            assert curve.values[k - 1] == pytest.approx(metrics[key])
            assert (curve.low[k - 1], curve.high[k - 1]) == pytest.approx(intervals[key])


@settings(deadline=None, max_examples=30)
@given(num_videos=st.integers(1, 7), extra=st.integers(0, 15), seed=st.integers(0, 2**31))
def test_slices_are_those_of_test_sets_drawn_one_by_one(num_videos, extra, seed):
    rng = np.random.default_rng(seed)
    videos = np.concatenate([np.arange(num_videos), rng.integers(num_videos, size=extra)])
    values, slices = rng.integers(1, 4, len(videos)), rng.integers(3, size=len(videos))
    slices[0] = 2
    found = recalls_by_slice(values, videos, slices, k=2, num_resamples=15, seed=3)
    for i in range(3):
        own = slices == i
        if not own.any():
            assert np.isnan([found.values[i], found.low[i], found.high[i]]).all()
            continue
        assert found.values[i] == pytest.approx(100 * np.mean(values[own] <= 2))
        drawn = drawn_one_by_one(
            values[own], videos[own], k=2, num_videos=num_videos, num_resamples=15, seed=3
        )
        some = [value for value in drawn if value is not None]
        expected = np.percentile(some, [2.5, 97.5]) if some else [np.nan] * 2
        assert (found.low[i], found.high[i]) == pytest.approx(tuple(expected), nan_ok=True)


def ranks_of(strength, noise, num_videos=300):
    scores = noise + strength * np.eye(num_videos)
    return retrieval_ranks(scores, np.arange(num_videos))


def test_a_run_does_not_differ_from_itself():
    ranks = ranks_of(0.5, np.random.default_rng(0).random((300, 300)))
    for paired in paired_bootstrap(ranks, ranks, num_resamples=200).values():
        assert (paired.difference, paired.low, paired.high, paired.p_value) == (0, 0, 0, 1)


def test_pairing_finds_what_separate_intervals_cannot():
    noise = np.random.default_rng(1).random((300, 300))
    weaker, stronger = ranks_of(0.60, noise), ranks_of(0.64, noise)
    for direction in ("t2v", "v2t"):
        key = f"{direction}/R1"
        low = bootstrap_intervals(stronger)[key][0]
        assert low < bootstrap_intervals(weaker)[key][1]  # they overlap
        paired = paired_bootstrap(stronger, weaker, num_resamples=1000)[key]
        assert 0 < paired.low <= paired.difference <= paired.high
        assert paired.p_value < 0.01
        opposite = paired_bootstrap(weaker, stronger, num_resamples=1000)[key]
        assert opposite.difference == -paired.difference
        assert opposite.p_value == paired.p_value


def test_what_was_drawn_once_serves_every_pair():
    rng = np.random.default_rng(4)
    runs = [ranks_of(strength, rng.random((80, 80)), 80) for strength in (0.5, 0.6, 0.7)]
    drawn = [resampled_metrics(ranks, num_resamples=100) for ranks in runs]
    for i, j in ((0, 1), (2, 0), (1, 2)):
        expected = paired_bootstrap(runs[i], runs[j], num_resamples=100)
        assert paired_differences(drawn[i], drawn[j]) == expected
    low, high = np.percentile(drawn[0].values["v2t/MnR"], [2.5, 97.5])
    assert bootstrap_intervals(runs[0], num_resamples=100)["v2t/MnR"] == (low, high)


def test_equal_runs_are_told_apart_as_rarely_as_the_test_says():
    rng = np.random.default_rng(2)
    p_values = [
        paired_bootstrap(
            ranks_of(0.6, rng.random((80, 80)), 80),
            ranks_of(0.6, rng.random((80, 80)), 80),
            num_resamples=200,
        )["t2v/MnR"].p_value
        for _ in range(200)
    ]
    assert 0.01 <= np.mean(np.array(p_values) < 0.05) <= 0.1


def test_runs_over_other_queries_do_not_compare():
    noise = np.random.default_rng(3).random((300, 300))
    with pytest.raises(ValueError, match="300 texts of 300 videos, and 80 of 80"):
        paired_bootstrap(ranks_of(1, noise), ranks_of(1, noise[:80, :80], 80))
