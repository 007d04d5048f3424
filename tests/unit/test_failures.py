"""The queries that fail, against what a loop over all of them finds."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpool.metrics import retrieval_ranks
from xpool_platform.evaluate import failures
from xpool_platform.evaluate.failures import FAILURES_SCHEMA, failures_table
from xpool_platform.result_files import FAILURES


def looked_up(scores, video_of_text, video_ids, captions):
    """Each failure by (direction, query), one query after the other."""
    found = {}
    for text, own in enumerate(video_of_text):
        truth = scores[text, own]
        others = [(scores[text, v], video_ids[v]) for v in range(len(video_ids)) if v != own]
        rank = 1 + sum(score >= truth for score, _ in others)
        if rank > 10:
            beaten_by = [(video, None, score) for score, video in sorted(others, reverse=True)]
            found["t2v", video_ids[own], captions[text]] = (rank, truth, beaten_by[:10])
    for video in range(len(video_ids)):
        best = {}
        for text, own in enumerate(video_of_text):
            score = scores[text, video]
            best[own] = max(best.get(own, (-np.inf, "")), (score, captions[text]))
        truth = best.pop(video)[0]
        rank = 1 + sum(score >= truth for score, _ in best.values())
        if rank > 10:
            order = sorted(best.items(), key=lambda item: item[1], reverse=True)
            beaten_by = [(video_ids[own], caption, score) for own, (score, caption) in order]
            found["v2t", video_ids[video], None] = (rank, truth, beaten_by[:10])
    return found


@settings(deadline=None, max_examples=30)
@given(
    num_videos=st.integers(1, 30),
    extra=st.integers(0, 30),
    at_once=st.sampled_from([1, 64, 2**22]),
    seed=st.integers(0, 2**31),
)
def test_failures_are_those_of_a_loop_over_all_queries(num_videos, extra, at_once, seed):
    rng = np.random.default_rng(seed)
    video_of_text = rng.permutation(
        np.concatenate([np.arange(num_videos), rng.integers(num_videos, size=extra)])
    )
    scores = rng.permutation(len(video_of_text) * num_videos).astype(np.float32)
    scores = scores.reshape(len(video_of_text), num_videos) / scores.size
    before = scores.copy()
    ids = [f"v{i}" for i in range(num_videos)]
    captions = [f"caption {i}" for i in range(len(video_of_text))]
    ranks = retrieval_ranks(scores, video_of_text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failures, "VALUES_AT_ONCE", at_once)
        table = failures_table(ranks, scores, ids, captions)
    assert table.schema == FAILURES_SCHEMA
    assert (scores == before).all()
    rows = table.to_pylist()
    expected = looked_up(scores, video_of_text, ids, captions)
    found = {
        (row["direction"], row["video_id"], row["caption"]): (
            row["rank"],
            row["score"],
            [(one["video_id"], one["caption"], one["score"]) for one in row["beaten_by"]],
        )
        for row in rows
    }
    assert found == expected
    assert len(rows) == len(expected) == np.sum(ranks.t2v > 10) + np.sum(ranks.v2t > 10)
    assert [row["rank"] for row in rows] == sorted((row["rank"] for row in rows), reverse=True)


def test_the_truth_is_never_among_what_beats_it_though_all_scores_are_equal():
    ranks = retrieval_ranks(np.zeros((12, 12)), np.arange(12))
    rows = failures_table(
        ranks, np.zeros((12, 12)), [f"v{i}" for i in range(12)], ["a"] * 12
    ).to_pylist()
    assert len(rows) == 24
    for row in rows:
        others = [one["video_id"] for one in row["beaten_by"]]
        assert row["rank"] == 12
        assert len(set(others)) == 10
        assert row["video_id"] not in others


def test_a_model_without_failures_has_a_table_that_can_be_written(tmp_path):
    ranks = retrieval_ranks(np.eye(20), np.arange(20))
    table = failures_table(ranks, np.eye(20), [f"v{i}" for i in range(20)], ["a"] * 20)
    pq.write_table(table, tmp_path / FAILURES)
    read = pq.read_table(tmp_path / FAILURES)
    assert (len(read), read.schema.names) == (0, FAILURES_SCHEMA.names)
