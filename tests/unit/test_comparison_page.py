"""What a comparison looks like: on the console, as a page, as JSON."""

import io
import json
from datetime import datetime
from html.parser import HTMLParser

import pytest
from test_comparison import compared, compared_run

from xpool_platform.compare.page import figures_of, numbers_of, page_of
from xpool_platform.compare.tables import conclusions, tables_of
from xpool_platform.console import Console

NOW = datetime(2026, 1, 2, 3, 4)
HOSTILE = "<script>alert('1')</script>"


class Elements(HTMLParser):
    """The tags of a page, the addresses in it, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.addresses += [value for key, value in attrs if key in ("src", "href", "action")]

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def hostile():
    """Two runs whose names and values are other people's."""
    facts = [{f"{HOSTILE}key": HOSTILE, "list": "['a', 'b']"}, {"list": "[bold]x[/] \x1b[31m"}]
    return compared(
        compared_run(f"{HOSTILE}$x_{{$", [1, 1, 2], facts=facts[0], selected_on="test"),
        compared_run('"><img src=x onerror=alert(1)>[/red]', [1, 2, 3], facts=facts[1]),
    )


def test_names_and_values_are_text_on_the_page(hostile):
    page = page_of(hostile, made_at=NOW)
    found = Elements(page)
    assert "script" not in found.tags
    assert len(found.addresses) == 2
    assert all(each.startswith("data:image/png;base64,") for each in found.addresses)
    assert "http" not in page.replace("http-equiv", "")
    for text in (f"{HOSTILE}key", '"><img src=x onerror=alert(1)>[/red]', "['a', 'b']"):
        assert text in found.text
    assert "\x1b" not in page


def test_names_and_values_are_text_on_the_console(hostile):
    file = io.StringIO()
    for table in tables_of(hostile, short_names=True):
        Console(file=file).rows(table.title, table.header, table.rows)
    out = file.getvalue()
    assert "[bold]x[/] ?[31m" in out
    assert "['a', 'b']" in out
    assert "\x1b" not in out


def test_tables_fit_a_terminal_of_80_characters_and_break_no_figure():
    names = [f"a-name-that-is-long-{i}" for i in range(4)]
    ranks = [[1, 2, 30] * 30, [1, 1, 50] * 30, [5, 1, 1] * 30, [80, 90, 1] * 30]
    runs = [compared_run(name, each) for name, each in zip(names, ranks, strict=True)]
    comparison = compared(*runs, num_resamples=300)
    file = io.StringIO()
    console = Console(file=file)
    tables = tables_of(comparison, short_names=True)
    for table in tables[2:]:
        console.rows(table.title, table.header, table.rows, unbroken=table.of_numbers)
    out = file.getvalue()
    assert max(map(len, out.splitlines())) <= 80
    for found in comparison.differences:
        for key in ("t2v/R1", "v2t/MnR"):
            assert f"{found[key].low:+.1f}…{found[key].high:+.1f}" in out
    for run in comparison.runs:
        low, high = run.report.intervals["t2v/MnR"]
        assert f"{low:.1f}–{high:.1f}" in out


def test_a_matrix_that_is_too_wide_for_the_terminal_is_whole():
    runs = [compared_run(str(i), [1 + i % 3 * j % 5 for j in range(40)]) for i in range(10)]
    comparison = compared(*runs, num_resamples=150)
    matrix = tables_of(comparison, short_names=True)[-1]
    file = io.StringIO()
    Console(file=file).rows(matrix.title, matrix.header, matrix.rows, unbroken=True)
    lines = file.getvalue().splitlines()
    assert comparison.pairwise is not None
    assert len(lines) == 10 + 5
    for row, of_run in zip(lines[4:], comparison.pairwise.corrected, strict=False):
        cells = [cell.strip(" *") for cell in row.strip("│").split("│")][1:]
        assert cells == ["–" if p is None else f"{p:.2g}" for p in of_run]


def test_what_differs_is_a_table_with_the_fewer_across():
    wide = compared(
        *(compared_run(str(i), [1], facts={"a": str(i)}) for i in range(4)), num_resamples=100
    )
    facts = tables_of(wide, short_names=True)[1]
    assert facts.header == ["run", "a"]
    assert facts.rows == [["1", "0"], ["2", "1"], ["3", "2"], ["4", "3"]]
    both = {"a": "1", "b": "2"}, {"a": "2"}
    tall = compared(*(compared_run("x", [1], facts=each) for each in both), num_resamples=100)
    facts = tables_of(tall, short_names=True)[1]
    assert facts.header == ["", "1", "2"]
    assert facts.rows == [["a", "1", "2"], ["b", "2", "–"]]
    same = compared(compared_run("x", [1]), compared_run("y", [1]), num_resamples=100)
    assert tables_of(same, short_names=True)[1].title == "the configs do not differ"


def test_conclusions_follow_the_corrected_p_values():
    good, poor = [1] * 40, [2] * 30 + [1] * 10
    comparison = compared(
        *(compared_run(name, each) for name, each in (("a", good), ("b", poor), ("c", good)))
    )
    real, none = conclusions(comparison)
    assert real.startswith("b against a: t2v R@1 -75.0 (")
    assert real.endswith("corrected 0.001: more than the choice of test videos explains")
    assert none.endswith("p = 1, corrected 1: not more than the choice of test videos explains")
    object.__setattr__(comparison, "corrected", [0.06, 1.0])
    assert ": not more than" in conclusions(comparison)[0]


def test_the_numbers_are_all_in_the_json(hostile):
    numbers = json.loads(json.dumps(numbers_of(hostile, made_at=NOW)))
    first, second = hostile.runs
    assert numbers["baseline"] == first.run_id
    assert [run["metrics"]["t2v/R1"] for run in numbers["runs"]] == pytest.approx(
        [200 / 3, 100 / 3]
    )
    assert numbers["runs"][0]["intervals"]["t2v/R1"] == list(first.report.intervals["t2v/R1"])
    assert numbers["differing"]["list"][first.run_id] == "['a', 'b']"
    assert numbers["differing"][f"{HOSTILE}key"][second.run_id] is None
    found = numbers["differences"][second.run_id]["v2t/MdR"]
    assert found["p_value"] == hostile.differences[0]["v2t/MdR"].p_value
    assert numbers["corrected_p_values"]["t2v/R1"][second.run_id] == hostile.corrected[0]
    assert numbers["pairwise"] is None
    assert len(numbers["warnings"]) == 1


def test_the_forest_shows_each_run_with_its_interval(hostile):
    (_, recalls), (_, apart) = figures_of(hostile)
    axes = recalls.axes[0]
    assert axes.get_xlabel() == "R@1 in %"
    assert axes.get_yticklabels()[0].get_text().startswith("1 <script>")
    drawn = {container.get_label(): container.lines[0].get_xdata() for container in axes.containers}
    assert drawn["baseline"] == pytest.approx([200 / 3])
    assert drawn["run"] == pytest.approx([100 / 3])
    assert [label.get_text() for label in recalls.legends[0].texts] == ["run", "baseline"]
    low, high = apart.axes[0].containers[0].lines[2][0].get_segments()[0][:, 0]
    found = hostile.differences[0]["t2v/R1"]
    assert (low, high) == pytest.approx((found.low, found.high))
