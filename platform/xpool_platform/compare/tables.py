"""The tables of a comparison, the same for the console and the page."""

from collections.abc import Sequence
from dataclasses import dataclass

from xpool.bootstrap import PairedDifference
from xpool_platform.compare.compared_run import ComparedRun
from xpool_platform.compare.comparison import DECISIVE, SIGNIFICANT, Comparison
from xpool_platform.console import COLUMNS
from xpool_platform.data.plain_text import printable
from xpool_platform.report import DIRECTIONS, TITLES

ABSENT = "–"
MAX_LABEL_CHARACTERS = 10
"""Of a name beside metrics, so that a table fits a terminal of 80."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Text in rows and columns; of a cell's lines all but the first are minor."""

    title: str
    header: list[str]
    rows: list[list[str]]
    of_numbers: bool = True


def tables_of(comparison: Comparison, *, short_names: bool) -> list[Table]:
    """The runs, what differs in them, their metrics, the differences, all pairs."""
    runs = comparison.runs
    labels = [_label(i, run, short=short_names) for i, run in enumerate(runs, start=1)]
    tables = [_runs(runs), _facts(comparison)]
    tables += [_metrics(comparison, labels, *direction) for direction in DIRECTIONS.items()]
    if short_names:
        labels = [str(i) for i in range(1, len(runs) + 1)]
    tables += [_differences(comparison, labels, *direction) for direction in DIRECTIONS.items()]
    return [*tables, *_pairwise(comparison, labels)]


def conclusions(comparison: Comparison) -> list[str]:
    """What the tests say of each run against the baseline, in a sentence."""
    baseline = comparison.runs[0]
    sentences = []
    for run, found, corrected in zip(
        comparison.runs[1:], comparison.differences, comparison.corrected, strict=True
    ):
        decisive = found[DECISIVE]
        several = "" if len(comparison.differences) == 1 else f", corrected {corrected:.2g}"
        real = "more than" if corrected < SIGNIFICANT else "not more than"
        sentences.append(
            f"{run.shown} against {baseline.shown}: t2v R@1 {_signed(decisive)}, "
            f"p = {decisive.p_value:.2g}{several}: {real} the choice of test videos explains"
        )
    return sentences


def _runs(runs: Sequence[ComparedRun]) -> Table:
    report = runs[0].report
    return Table(
        title=f"{report.split}: {report.num_captions} captions, {report.num_videos} videos; "
        "run 1 is the baseline",
        header=["run", "name", "id"],
        rows=[[str(i), run.shown, run.run_id] for i, run in enumerate(runs, start=1)],
        of_numbers=False,
    )


def _facts(comparison: Comparison) -> Table:
    """Runs stand where there are fewer of them than of what differs."""
    numbers = [str(i) for i in range(1, len(comparison.runs) + 1)]
    names = list(comparison.facts)
    cells = [
        [ABSENT if value is None else printable(value) for value in values]
        for values in comparison.facts.values()
    ]
    if not names:
        return Table(title="the configs do not differ", header=[], rows=[], of_numbers=False)
    title = "what differs in the configs"
    if len(numbers) <= len(names):
        rows = [[name, *of_runs] for name, of_runs in zip(names, cells, strict=True)]
        return Table(title=title, header=["", *numbers], rows=rows, of_numbers=False)
    rows = [[number, *values] for number, *values in zip(numbers, *cells, strict=True)]
    return Table(title=title, header=["run", *names], rows=rows, of_numbers=False)


def _metrics(comparison: Comparison, labels: Sequence[str], direction: str, words: str) -> Table:
    rows = []
    for label, run in zip(labels, comparison.runs, strict=True):
        cells = []
        for name in COLUMNS:
            key = f"{direction}/{name}"
            low, high = run.report.intervals[key]
            cells.append(f"{run.report.metrics[key]:.1f}\n{low:.1f}–{high:.1f}")
        rows.append([label, *cells])
    return Table(title=f"{words}, 95 % bootstrap intervals", header=_header(), rows=rows)


def _differences(
    comparison: Comparison, labels: Sequence[str], direction: str, words: str
) -> Table:
    several = len(comparison.differences) > 1
    rows = []
    for label, found, corrected in zip(
        labels[1:], comparison.differences, comparison.corrected, strict=True
    ):
        cells = []
        for name in COLUMNS:
            key = f"{direction}/{name}"
            each = found[key]
            cell = f"{each.difference:+.1f}\n{each.low:+.1f}…{each.high:+.1f}\np = "
            cell += f"{each.p_value:.2g}"
            if several and key == DECISIVE:
                cell += f"\nHolm {corrected:.2g}"
            cells.append(cell)
        rows.append([label, *cells])
    title = f"{words} minus run 1, 95 % paired bootstrap intervals"
    if several and DECISIVE.startswith(direction):
        title += "; Holm: p corrected"
    return Table(title=title, header=_header(), rows=rows)


def _pairwise(comparison: Comparison, labels: Sequence[str]) -> list[Table]:
    if comparison.pairwise is None:
        return []
    rows = [
        [label, *(ABSENT if p is None else f"{p:.2g}{_star(p)}" for p in of_run)]
        for label, of_run in zip(labels, comparison.pairwise.corrected, strict=True)
    ]
    num_pairs = len(labels) * (len(labels) - 1) // 2
    title = f"text to video R@1, Holm-corrected p of all {num_pairs} pairs; * below {SIGNIFICANT}"
    numbers = [str(i) for i in range(1, len(labels) + 1)]
    return [Table(title=title, header=["run", *numbers], rows=rows)]


def _header() -> list[str]:
    return ["run", *(TITLES[name] for name in COLUMNS)]


def _label(number: int, run: ComparedRun, *, short: bool) -> str:
    name = run.shown
    if short and len(name) > MAX_LABEL_CHARACTERS:
        half = MAX_LABEL_CHARACTERS // 2
        name = f"{name[: half - 1]}…{name[-half:]}"
    return f"{number} {name}"


def _signed(found: PairedDifference) -> str:
    return f"{found.difference:+.1f} ({found.low:+.1f} to {found.high:+.1f})"


def _star(p_value: float) -> str:
    return "*" if p_value < SIGNIFICANT else ""
