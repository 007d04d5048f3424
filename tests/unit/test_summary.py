import pyarrow as pa
import pytest

from xpool_platform.console import Console
from xpool_platform.data.manifest import SCHEMA
from xpool_platform.data.summary import SplitSummary, split_summary


def manifest(*rows: tuple[str, int]) -> pa.Table:
    """Rows of (split, number of captions)."""
    return pa.Table.from_pylist(
        [
            {"video_id": str(i), "uri": "a.mp4", "split": split, "captions": ["one"] * number}
            for i, (split, number) in enumerate(rows)
        ],
        schema=SCHEMA,
    )


def test_splits_are_counted_in_their_order():
    videos = manifest(("test", 1), ("train", 20), ("train", 3))
    assert split_summary(videos) == [
        SplitSummary("train", 2, 23, None),
        SplitSummary("test", 1, 1, None),
    ]
    assert split_summary(videos.slice(0, 0)) == []


def test_hours_are_the_sum_of_the_seconds_where_all_are_known():
    videos = manifest(("test", 1), ("train", 2), ("val", 1), ("train", 3))
    seconds = pa.array([1800.0, 3600.0, None, 5400.0], pa.float64())
    summaries = split_summary(videos.append_column("duration_s", seconds))
    assert [(s.split, s.hours) for s in summaries] == [("train", 2.5), ("val", None), ("test", 0.5)]


@pytest.mark.parametrize(
    ("hours", "shown", "total"),
    [
        ((40.25, 0.126), ["40.2", "0.13"], "40.4"),
        ((2.0, None), ["2.00", ""], ""),
        ((None,), [""], ""),
    ],
)
def test_the_table_has_a_row_for_each_split_and_the_total(capsys, hours, shown, total):
    summaries = [
        SplitSummary(split, 9000, 180_000, its)
        for split, its in zip(("train", "test"), hours, strict=False)
    ]
    Console().summary(summaries)
    rows = [
        [cell.strip() for cell in line.strip("│\n").split("│")]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("│")
    ]
    number = len(hours)
    assert rows == [
        *([s.split, "9,000", "180,000", its] for s, its in zip(summaries, shown, strict=True)),
        ["total", f"{number * 9000:,}", f"{number * 180_000:,}", total],
    ]
