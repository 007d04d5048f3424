"""The files of an evaluation, and the checkpoints that a user can mean."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from object_store import served_bucket
from xpool.metrics import RetrievalRanks, retrieval_ranks
from xpool_platform.checkpoint_files import (
    CONFIG,
    STATE,
    WEIGHTS,
    CheckpointState,
    find_checkpoint,
    state_bytes,
    write_files,
)
from xpool_platform.errors import UserError
from xpool_platform.locations import write_whole
from xpool_platform.result_files import (
    RANKS,
    RANKS_SCHEMA,
    find_ranks,
    ranks_table,
    read_ranked_queries,
    read_ranks,
    write_results,
)

VIDEO_IDS = ["b.mp4", "a.mp4", "c.mp4"]
CAPTIONS = ["one", "one", "two", "three", "four"]  # the first video has the same caption twice
VIDEO_OF_TEXT = np.array([0, 0, 1, 1, 2])


@pytest.fixture
def scores():
    return np.random.default_rng(0).random((5, 3)).astype(np.float32)


@pytest.fixture
def ranks(scores) -> dict[str, RetrievalRanks]:
    plain = retrieval_ranks(scores, VIDEO_OF_TEXT)
    return {"plain": plain, "dual_softmax": retrieval_ranks(-scores, VIDEO_OF_TEXT)}


def test_every_query_has_a_row(scores, ranks):
    table = ranks_table(ranks, scores, VIDEO_IDS, CAPTIONS)
    assert table.schema == RANKS_SCHEMA
    rows = table.to_pylist()
    assert [row["direction"] for row in rows] == ["t2v"] * 5 + ["v2t"] * 3
    assert [row["video_id"] for row in rows[:5]] == [VIDEO_IDS[v] for v in VIDEO_OF_TEXT]
    assert [row["caption"] for row in rows] == [*CAPTIONS, None, None, None]
    assert [row["rank"] for row in rows] == [*ranks["plain"].t2v, *ranks["plain"].v2t]
    assert rows[7]["rank_dual_softmax"] == ranks["dual_softmax"].v2t[2]
    assert table["rank_qb_norm"].null_count == 8
    assert rows[3]["score"] == scores[3, 1]
    assert rows[6]["score"] == max(scores[2, 1], scores[3, 1])


def test_ranks_are_read_in_the_order_of_this_evaluation(tmp_path, scores, ranks):
    table = ranks_table(ranks, scores, VIDEO_IDS, CAPTIONS)
    write_results(tmp_path, {"a": 1}, table.take([7, 4, 2, 0, 6, 3, 1, 5]), scores)
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"a": 1}
    np.testing.assert_array_equal(np.load(tmp_path / "scores.npy"), scores)
    found = read_ranks(tmp_path / RANKS, table)
    for name in ("t2v", "v2t", "video_of_text"):
        np.testing.assert_array_equal(getattr(found, name), getattr(ranks["plain"], name))


def test_other_queries_and_other_files_are_refused(tmp_path, scores, ranks):
    table = ranks_table(ranks, scores, VIDEO_IDS, CAPTIONS)
    path = tmp_path / RANKS
    pq.write_table(table.slice(1), path)
    with pytest.raises(UserError, match=r"it has 7, this evaluation 8, and 1 of these are not in"):
        read_ranks(path, table)
    pq.write_table(pa.table({"rank": [1]}), path)
    with pytest.raises(UserError, match=r"is no ranks.parquet of this project"):
        read_ranks(path, table)
    path.write_text("hello")
    with pytest.raises(UserError, match=r"is no ranks.parquet of this project"):
        read_ranks(path, table)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("rank", [0, 1, 1, 1, 1, 1, 1, 1], "is damaged: its 5 captions and 3 videos"),
        ("rank", [4, 1, 1, 1, 1, 1, 1, 1], "ranks that cannot be"),
        ("rank", [2**31 - 1, *[1] * 7], "ranks that cannot be"),
        ("rank", [None, 1, 1, 1, 1, 1, 1, 1], "is no ranks.parquet"),
        ("rank", ["one"] * 8, "is no ranks.parquet"),
        ("direction", ["t2v"] * 8, "its 8 captions and 0 videos do not belong together"),
        ("video_id", ["b.mp4"] * 8, "do not belong together"),
        ("video_id", ["d.mp4"] * 5 + VIDEO_IDS, "do not belong together"),
    ],
)
def test_ranks_that_cannot_be_are_refused(tmp_path, scores, ranks, *, column, value, words):
    table = ranks_table(ranks, scores, VIDEO_IDS, CAPTIONS)
    damaged = table.set_column(table.column_names.index(column), column, [value])
    pq.write_table(damaged, tmp_path / RANKS)
    with pytest.raises(UserError) as caught:
        read_ranked_queries(tmp_path / RANKS, "whose: ")
    assert str(caught.value).startswith("whose: ")
    assert words in str(caught.value)


def test_ranks_by_file_folder_and_name(tmp_path):
    for folder in ("runs/one", "evaluations/two"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / RANKS).touch()
    one, two = tmp_path / "runs" / "one" / RANKS, tmp_path / "evaluations" / "two" / RANKS
    assert find_ranks("one", tmp_path) == one
    assert find_ranks("two", tmp_path) == two
    assert find_ranks(str(one), tmp_path) == find_ranks(str(one.parent), tmp_path) == one
    with served_bucket("ranks") as bucket:
        write_whole(f"{bucket}/ranks.parquet", b"of a colleague")
        assert find_ranks(f"{bucket}/ranks.parquet", tmp_path).read_bytes() == b"of a colleague"
    with pytest.raises(UserError, match=r"against 'three' is neither a ranks.parquet"):
        find_ranks("three", tmp_path)


def checkpoint(folder: Path, step: int, score: float) -> Path:
    state = state_bytes(CheckpointState(step=step, score=score))
    write_files(str(folder), {WEIGHTS: b"w", CONFIG: b"{}", STATE: state})
    return folder


def test_the_checkpoint_of_a_run_is_its_best_and_of_equals_the_earliest(tmp_path, monkeypatch):
    kept = tmp_path / "runs" / "one" / "checkpoints"
    last = checkpoint(kept / "step_0000030", 30, 50.0)
    best = checkpoint(kept / "step_0000020", 20, 60.0)
    checkpoint(kept / "step_0000025", 25, 60.0)
    (kept / "step_0000040").mkdir()  # not whole
    assert find_checkpoint("one", tmp_path) == str(best)
    assert find_checkpoint(str(kept.parent), tmp_path / "elsewhere") == str(best)
    assert find_checkpoint(str(last), tmp_path) == str(last)
    monkeypatch.chdir(kept.parent)
    assert find_checkpoint("checkpoints/step_0000030", tmp_path) == str(last)
    (tmp_path / "model.pth").touch()
    assert find_checkpoint(str(tmp_path / "model.pth"), tmp_path) == str(tmp_path / "model.pth")
    with pytest.raises(UserError, match=r"checkpoint 'two' is neither a file, nor a folder"):
        find_checkpoint("two", tmp_path)
