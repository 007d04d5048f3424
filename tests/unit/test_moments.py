"""From weights of frames to moments: by hand, and what holds for any weights."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpool_platform.search.moments import MAX_MOMENTS, Moment, frame_bounds, moments_of


def test_frames_stand_for_what_is_nearest_to_them():
    assert frame_bounds([1.0, 2.0, 5.0], 0.0, 9.0) == [0.0, 1.5, 3.5, 9.0]
    assert frame_bounds([4.0], 3.0, 6.0) == [3.0, 6.0]
    # the frame on the screen at a segment's start may be older than it
    assert frame_bounds([2.9, 4.0], 3.0, 3.5) == [2.9, 3.45, 4.0]


def test_neighbours_above_an_even_share_are_one_moment():
    moments = moments_of([1, 2, 3, 4, 5], [0.05, 0.3, 0.35, 0.05, 0.25], 0.0, 6.0)
    assert [(m.start_s, m.end_s) for m in moments] == [(1.5, 3.5), (4.5, 6.0)]
    assert [m.weight for m in moments] == pytest.approx([0.65, 0.25])


def test_the_best_moment_is_the_first_wherever_it_lies():
    moments = moments_of([0, 1, 2], [0.4, 0.0, 0.6], 0.0, 3.0)
    assert moments == [Moment(1.5, 3.0, 0.6), Moment(0.0, 0.5, 0.4)]


def test_no_more_than_a_few_moments_and_of_equal_ones_the_earlier():
    weights = [0.25, 0.0] * 4
    moments = moments_of(range(8), weights, 0.0, 8.0)
    assert [m.start_s for m in moments] == [0.0, 1.5, 3.5]
    assert len(moments) == MAX_MOMENTS


@pytest.mark.parametrize("count", [1, 2, 3, 7, 12])
def test_equal_weights_are_one_moment_of_it_all(count):
    moments = moments_of(range(count), [1 / count] * count, 0.0, count + 1.0)
    assert len(moments) == 1
    assert (moments[0].start_s, moments[0].end_s) == (0.0, count + 1.0)
    assert moments[0].weight == pytest.approx(1.0)


def test_a_frame_that_is_sampled_again_counts_once_with_all_its_shares():
    times = [0.0, 1.0, 2.0, 2.0, 2.0]
    assert moments_of(times, [0.1, 0.1, 0.3, 0.3, 0.2], 0.0, 3.0) == [
        Moment(1.5, 3.0, pytest.approx(0.8))
    ]
    assert moments_of(times, [0.1, 0.6, 0.1, 0.1, 0.1], 0.0, 3.0) == [Moment(0.5, 1.5, 0.6)]


def test_a_video_of_one_frame_is_one_moment():
    assert moments_of([0.0], [1.0], 0.0, 0.0) == [Moment(0.0, 0.0, 1.0)]
    assert moments_of([0.5] * 4, [0.25] * 4, 0.2, 0.9) == [Moment(0.2, 0.9, 1.0)]


def test_what_does_not_belong_together_is_refused():
    with pytest.raises(ValueError, match="zip"):
        moments_of([0.0, 1.0], [1.0], 0.0, 1.0)


@st.composite
def attended(draw):
    """Times that rise, some of them again, weights that sum to 1, and a segment around them."""
    gaps = draw(st.lists(st.sampled_from([0.0, 0.04, 0.5, 3.0]), min_size=1, max_size=16))
    times = [10 + sum(gaps[: i + 1]) for i in range(len(gaps))]
    parts = draw(st.lists(st.integers(0, 1000), min_size=len(gaps), max_size=len(gaps)).filter(any))
    start = times[0] - draw(st.sampled_from([0.0, 2.0]))
    end = times[-1] + draw(st.sampled_from([0.0, 2.0]))
    return times, [part / sum(parts) for part in parts], start, end


@given(attended())
def test_moments_lie_apart_within_the_segment_the_best_first(example):
    times, weights, start, end = example
    moments = moments_of(times, weights, start, end)
    assert 1 <= len(moments) <= MAX_MOMENTS
    shares = [moment.weight for moment in moments]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) <= 1 + 1e-9
    in_time = sorted(moments, key=lambda moment: moment.start_s)
    assert all(start <= m.start_s <= m.end_s <= end for m in moments)
    assert all(a.end_s < b.start_s for a, b in pairwise(in_time))
    # each weight is that of the frames within; the frame with the most for its samples is in one
    for moment in moments:
        inside = sum(
            w for t, w in zip(times, weights, strict=True) if moment.start_s <= t <= moment.end_s
        )
        assert inside == pytest.approx(moment.weight)
    of_time = {
        t: np.mean([w for u, w in zip(times, weights, strict=True) if u == t]) for t in times
    }
    heaviest = max(of_time, key=of_time.get)
    if len({round(w, 9) for w in of_time.values()}) > 1 and len(moments) < MAX_MOMENTS:
        assert any(m.start_s <= heaviest <= m.end_s for m in moments)
