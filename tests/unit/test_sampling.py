import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpool.sampling import random_frame_indices, uniform_frame_indices


def test_short_videos_repeat_their_last_frame():
    assert uniform_frame_indices(3, 5) == [0, 1, 2, 2, 2]
    assert random_frame_indices(3, 5, np.random.default_rng(0)) == [0, 1, 2, 2, 2]


@given(available=st.integers(1, 500), wanted=st.integers(1, 40), seed=st.integers(0, 2**31))
def test_random_indices_stay_in_the_segments_of_the_uniform_ones(available, wanted, seed):
    uniform = uniform_frame_indices(available, wanted)
    drawn = random_frame_indices(available, wanted, np.random.default_rng(seed))
    assert len(uniform) == len(drawn) == wanted
    assert drawn == sorted(drawn)
    assert 0 <= drawn[0] <= drawn[-1] < available
    if available >= wanted:
        assert len(set(drawn)) == wanted
        width = -(-available // wanted)
        assert all(abs(a - b) < width for a, b in zip(uniform, drawn, strict=True))


@pytest.mark.parametrize(("available", "wanted"), [(0, 12), (12, 0), (-1, 3)])
def test_nothing_to_sample_is_an_error(available, wanted):
    with pytest.raises(ValueError, match="at least 1"):
        uniform_frame_indices(available, wanted)
