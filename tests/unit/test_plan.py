from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpool_platform.data.plan import BatchPlan, worker_bounds


def epoch(plan: BatchPlan, number: int) -> list[np.ndarray]:
    first = number * plan.batches_per_epoch
    return [plan.batch(step) for step in range(first, first + plan.batches_per_epoch)]


@given(
    captions=st.lists(st.integers(1, 9), min_size=1, max_size=40),
    batch_size=st.integers(1, 33),
    seed=st.integers(0, 2**31),
)
def test_each_pair_once_an_epoch_and_no_video_twice_in_a_batch(captions, batch_size, seed):
    plan = BatchPlan(captions, batch_size, seed)
    every_pair = {(v, c) for v, count in enumerate(captions) for c in range(count)}
    for number in (0, 3):
        batches = epoch(plan, number)
        pairs = [tuple(pair) for batch in batches for pair in batch.tolist()]
        assert len(pairs) == len(every_pair)
        assert set(pairs) == every_pair
        for batch in batches:
            assert 1 <= len(batch) <= batch_size
            assert len(set(batch[:, 0].tolist())) == len(batch)
        sizes = [len(batch) for batch in batches]
        assert max(sizes) - min(sizes) <= 1


def test_a_batch_depends_on_seed_and_step_alone():
    captions = [3] * 50
    plan, again, other = (BatchPlan(captions, 8, seed) for seed in (1, 1, 2))
    forwards = [plan.batch(step).tolist() for step in range(60)]
    backwards = [again.batch(step).tolist() for step in reversed(range(60))][::-1]
    assert forwards == backwards
    assert forwards != [other.batch(step).tolist() for step in range(60)]
    assert epoch(plan, 0)[0].tolist() != epoch(plan, 1)[0].tolist()


def test_videos_meet_new_company():
    plan = BatchPlan([20] * 300, 32, seed=0)
    company = {v: set() for v in range(300)}
    for batch in epoch(plan, 0):
        videos = set(batch[:, 0].tolist())
        for video in videos:
            company[video] |= videos - {video}
    # 20 batches of 31 others; drawn at random they would hold some 265 different videos
    assert np.mean([len(others) for others in company.values()]) > 220


@given(num_pairs=st.integers(0, 100), world_size=st.integers(1, 9))
def test_worker_bounds_share_out_everything(num_pairs, world_size):
    bounds = [worker_bounds(num_pairs, rank, world_size) for rank in range(world_size)]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == num_pairs
    assert all(a[1] == b[0] for a, b in pairwise(bounds))
    sizes = [stop - first for first, stop in bounds]
    assert max(sizes) - min(sizes) <= 1


def test_a_plan_needs_captions():
    for captions in ([], [2, 0]):
        with pytest.raises(ValueError, match="at least one caption"):
            BatchPlan(captions, 4, 0)
