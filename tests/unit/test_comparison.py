"""Runs compared on ranks worked by hand: differences, corrections, warnings."""

import numpy as np
import pyarrow as pa
import pytest

from xpool.bootstrap import bootstrap_intervals, paired_bootstrap
from xpool.metrics import METRICS, RetrievalRanks, metrics_of_ranks
from xpool_platform.compare.compared_run import ComparedRun
from xpool_platform.compare.comparison import compare, holm
from xpool_platform.compare.differing import differing, facts_of
from xpool_platform.errors import UserError
from xpool_platform.report import RetrievalReport
from xpool_platform.result_files import RANKS_SCHEMA

KEYS = [f"{direction}/{name}" for direction in ("t2v", "v2t") for name in METRICS]


def compared_run(name: str, ranks: list[int], *, split: str = "test", **changes) -> ComparedRun:
    """A run over videos of a caption each, with these ranks in both directions."""
    of = RetrievalRanks(
        t2v=np.array(ranks), v2t=np.array(ranks), video_of_text=np.arange(len(ranks))
    )
    videos = [f"{split}{i}" for i in range(len(ranks))]
    intervals = bootstrap_intervals(of, num_resamples=100)
    report = {"selected_on": "val", "num_missing": 0} | {
        key: changes.pop(key) for key in ("selected_on", "num_missing") if key in changes
    }
    return ComparedRun(
        run_id=f"id of {name}",
        name=name,
        experiment="shapes",
        status=changes.pop("status", "FINISHED"),
        facts=changes.pop("facts", {}),
        report=RetrievalReport(
            split=split,
            num_videos=len(ranks),
            num_captions=len(ranks),
            metrics=metrics_of_ranks(of),
            intervals=intervals,
            chance={},
            processed_metrics={},
            processed_intervals={},
            **report,
        ),
        queries=pa.table(
            {
                "direction": ["t2v"] * len(ranks) + ["v2t"] * len(ranks),
                "video_id": videos * 2,
                "caption": [f"caption of {video}" for video in videos] + [None] * len(ranks),
                "rank": ranks * 2,
            },
            schema=pa.schema(
                [RANKS_SCHEMA.field(n) for n in ("direction", "video_id", "caption", "rank")]
            ),
        ),
    )


def compared(*runs: ComparedRun, num_resamples: int = 4000):
    return compare(runs, name="a name", num_resamples=num_resamples)


def test_a_difference_worked_by_hand():
    # one of two videos is wrong: a test set of two draws without it has a chance of 1 in 4, and
    # only that one shows no difference, so p is twice that
    comparison = compared(compared_run("good", [1, 1]), compared_run("poor", [1, 2]))
    (found,) = comparison.differences
    assert found.keys() == set(KEYS)
    assert found["t2v/R1"].difference == found["v2t/R1"].difference == -50
    assert (found["t2v/R1"].low, found["t2v/R1"].high) == (-100, 0)
    assert found["t2v/R1"].p_value == pytest.approx(0.5, abs=0.03)
    assert (found["t2v/MnR"].difference, found["t2v/R5"].p_value) == (0.5, 1)
    assert comparison.corrected == [found["t2v/R1"].p_value]
    assert comparison.pairwise is None


def test_the_test_is_that_of_an_evaluation_against_another():
    rng = np.random.default_rng(0)
    one, two = (list(map(int, rng.integers(1, 31, size=30))) for _ in range(2))
    ranks = [
        RetrievalRanks(t2v=np.array(r), v2t=np.array(r), video_of_text=np.arange(30))
        for r in (one, two)
    ]
    comparison = compared(compared_run("one", one), compared_run("two", two), num_resamples=500)
    assert comparison.differences == [paired_bootstrap(ranks[1], ranks[0], num_resamples=500)]


def test_the_order_of_the_rows_does_not_matter():
    one, two = compared_run("one", [1, 3, 2, 1, 4]), compared_run("two", [2, 2, 1, 1, 5])
    mixed = compared_run("two", [2, 2, 1, 1, 5])
    order = np.random.default_rng(0).permutation(10)
    object.__setattr__(mixed, "queries", mixed.queries.take(order))
    assert compared(one, mixed).differences == compared(one, two).differences


def test_holm_by_hand():
    # in order 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1, none below the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1, 1]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


def test_several_runs_are_corrected_and_paired():
    rng = np.random.default_rng(1)
    good = np.where(rng.random(60) < 0.9, 1, 2).tolist()
    poor = np.where(rng.random(60) < 0.3, 1, 2).tolist()
    comparison = compared(
        compared_run("good", good), compared_run("poor", poor), compared_run("copy", good)
    )
    raw = [each["t2v/R1"].p_value for each in comparison.differences]
    assert comparison.corrected == [2 * raw[0], raw[1]] == [pytest.approx(4 / 4001), 1]
    assert comparison.pairwise is not None
    found, corrected = comparison.pairwise.p_values, comparison.pairwise.corrected
    assert [found[i][i] for i in range(3)] == [None] * 3
    assert found[0][1] == found[1][0] == found[1][2] == raw[0]
    assert corrected[0][1] == corrected[1][2] == 3 * raw[0]
    assert corrected[0][2] == corrected[2][0] == 1


def test_more_than_ten_runs_are_not_paired():
    runs = [compared_run(str(i), [1, 2]) for i in range(11)]
    assert compared(*runs[:10], num_resamples=100).pairwise is not None
    comparison = compared(*runs, num_resamples=100)
    assert comparison.pairwise is None
    assert len(comparison.corrected) == 10


def test_runs_over_other_queries_are_named():
    one = compared_run("one", [1, 1, 2])
    other = compared_run("other", [1, 2], split="val", num_missing=1)
    with pytest.raises(UserError) as caught:
        compared(one, other)
    for words in (
        "runs other and one do not rank the same queries",
        "the one has 2 captions and 2 videos of split 'val' with 1 videos missing",
        "the other 3 captions and 3 videos of split 'test'",
        "6 of these are not in the other",
        "evaluate both on the same split of the same data",
    ):
        assert words in str(caught.value)


def test_what_differs_is_told_and_what_always_does_is_not():
    params = {"run_name": "a", "output_dir": "/a", "tracking.uri": "a", "model.pooling": "xpool"}
    tags = {"git.commit": "1", "command": "a", "run_dir": "/a", "mlflow.user": "a"}
    one = facts_of(params | {"train.seed": "1"}, tags, {"test": "shapes 1"})
    assert one == {
        "model.pooling": "xpool",
        "train.seed": "1",
        "tag git.commit": "1",
        "dataset test": "shapes 1",
    }
    two = facts_of(
        params | {"checkpoint": "x", "model.pooling": "mean", "run_name": "b"},
        tags | {"command": "b", "git.commit": "2"},
        {"test": "shapes 1"},
    )
    found = differing([one, two])
    assert list(found) == ["model.pooling", "train.seed", "checkpoint", "tag git.commit"]
    assert found["model.pooling"] == ["xpool", "mean"]
    assert found["train.seed"] == ["1", None]
    assert found["tag git.commit"] == ["1", "2"]
    assert differing([one, dict(one)]) == {}


def test_figures_that_flatter_are_marked():
    warnings = compared(
        compared_run("fair", [1, 2]),
        compared_run("chosen", [1, 2], selected_on="test"),
        compared_run("holes", [1, 1], num_missing=3),
        compared_run("killed", [1, 1], status="KILLED"),
        num_resamples=100,
    ).warnings
    assert len(warnings) == 3
    assert warnings[0].startswith("chosen chose the checkpoint on the test split")
    assert warnings[1].startswith("holes was evaluated without 3 videos of the test split")
    assert warnings[2].startswith("killed (KILLED) did not finish")
    fair = compared(compared_run("a", [1]), compared_run("b", [1]), num_resamples=100)
    assert fair.warnings == []
    same = [compared_run(name, [1], selected_on="test") for name in "ab"]
    assert compared(*same, num_resamples=100).warnings[0].startswith("every run chose")
