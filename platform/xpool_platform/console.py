"""What a person sees: progress as bars on a terminal and as a few lines in a log, then a table."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol, TextIO

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from xpool.bootstrap import PairedDifference
from xpool_platform.data.store_catalogue import StoreEntry
from xpool_platform.data.summary import SplitSummary
from xpool_platform.report import DIRECTIONS, METHODS, TITLES, RetrievalReport

SECONDS_BETWEEN_LINES = 5.0

COLUMNS = ("R1", "R5", "R10", "MdR", "MnR")


class Stage(Protocol):
    """One stage of a job."""

    def __call__(self, done: int, total: int, text: str = "") -> None:
        """How far it is."""


class Console:
    """Standard output for people, or a file."""

    def __init__(self, file: TextIO | None = None) -> None:
        self._rich = RichConsole(file=file, soft_wrap=True, highlight=False)

    def line(self, text: str) -> None:
        """A line of text."""
        self._rich.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Progress of a stage: a bar on a terminal, otherwise a line every few seconds."""
        if self._rich.is_terminal:
            with _bar(self._rich) as progress:
                task = progress.add_task(name, total=None, text="")

                def update(done: int, total: int, text: str = "") -> None:
                    progress.update(task, completed=done, total=total, text=text)

                yield update
        else:
            yield _Lines(self, name)

    def summary(self, summaries: Sequence[SplitSummary]) -> None:
        """The splits of the data, one under the other, and all of them together."""
        table = Table(title="data", title_justify="left")
        table.add_column("")
        for title in ("videos", "captions", "hours"):
            table.add_column(title, justify="right")
        for split in summaries:
            table.add_row(
                split.split, f"{split.num_videos:,}", f"{split.num_captions:,}", _hours(split.hours)
            )
        hours = [split.hours for split in summaries if split.hours is not None]
        table.add_section()
        table.add_row(
            "total",
            f"{sum(split.num_videos for split in summaries):,}",
            f"{sum(split.num_captions for split in summaries):,}",
            _hours(sum(hours) if len(hours) == len(summaries) else None),
        )
        self._rich.print(table)

    def stores(self, entries: Sequence[StoreEntry], where: str) -> None:
        """Frame stores, the last used first."""
        total = sum(entry.num_bytes for entry in entries) / 2**20
        self.line(f"{len(entries)} frame stores, {total:,.1f} MiB, {where}")
        if not entries:
            return
        table = Table()
        table.add_column("store", no_wrap=True)
        for title in ("videos", "MiB", "days unused"):
            table.add_column(title, justify="right")
        table.add_column("experiments")
        table.add_column("frames")
        for entry in entries:
            table.add_row(
                entry.location.rsplit("/", 1)[-1],
                f"{entry.num_videos:,}",
                f"{entry.num_bytes / 2**20:,.1f}",
                f"{entry.idle_days:.1f}",
                ", ".join(entry.experiments),
                entry.settings if entry.is_current else f"of an older version: {entry.settings}",
            )
        self._rich.print(table)

    def table(self, report: RetrievalReport, caption: str) -> None:
        """The metrics of both directions with 95 % intervals, beside chance and after-processed."""
        missing = f", {report.num_missing} more missing" if report.num_missing else ""
        counts = f"{report.num_captions} captions, {report.num_videos} videos{missing}"
        table = _metrics_table(f"{report.split}: {counts}", caption)
        for direction, words in DIRECTIONS.items():
            keys = [f"{direction}/{name}" for name in COLUMNS]
            table.add_row(words, *_cells(keys, report.metrics, report.intervals))
            for method, its_name in METHODS.items():
                own = [f"{method}/{key}" for key in keys]
                if own[0] in report.processed_metrics:
                    cells = _cells(own, report.processed_metrics, report.processed_intervals)
                    table.add_row(f"  {its_name}", *cells)
            table.add_row(
                "[dim]  chance[/dim]", *(f"[dim]{report.chance[key]:.1f}[/dim]" for key in keys)
            )
        self._rich.print(table)

    def rows(
        self,
        title: str,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        unbroken: bool = False,
    ) -> None:
        """A table of text as it is; of a cell's lines all but the first are dim.

        Where it is too wide cells are broken; with `unbroken` only those of the first column, and
        if that does not do, lines are longer than the terminal is wide.
        """
        table = Table(title=escape(title), title_justify="left")
        for i, name in enumerate(header):
            table.add_column(
                escape(name),
                justify="right" if i else "left",
                overflow="fold",
                no_wrap=unbroken and i > 0,
            )
        for row in rows:
            cells = [escape(cell).partition("\n") for cell in row]
            table.add_row(*(f"{first}{end}[dim]{rest}[/dim]" for first, end, rest in cells))
        needed = self._rich.measure(table, options=self._rich.options.update(max_width=10_000))
        width = max(self._rich.width, needed.minimum) if unbroken else None
        self._rich.print(table, width=width, crop=False)

    def differences(self, differences: Mapping[str, PairedDifference], other: str) -> None:
        """This run minus another on the same queries."""
        table = _metrics_table(
            f"difference to {other}", "95 % paired bootstrap intervals and two-sided p-values"
        )
        for direction, words in DIRECTIONS.items():
            cells = []
            for name in COLUMNS:
                found = differences[f"{direction}/{name}"]
                cells.append(
                    f"{found.difference:+.1f}\n[dim]{found.low:+.1f}…{found.high:+.1f}\n"
                    f"p = {found.p_value:.2g}[/dim]"
                )
            table.add_row(words, *cells)
        self._rich.print(table)


def _hours(hours: float | None) -> str:
    return "" if hours is None else f"{hours:.2f}" if hours < 10 else f"{hours:,.1f}"


def _metrics_table(title: str, caption: str) -> Table:
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    table.add_column("")
    for name in COLUMNS:
        table.add_column(TITLES[name], justify="right")
    return table


def _cells(
    keys: list[str], metrics: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]
) -> list[str]:
    """A metric and under it its interval."""
    return [
        f"{metrics[key]:.1f}\n[dim]{intervals[key][0]:.1f}–{intervals[key][1]:.1f}[/dim]"
        for key in keys
    ]


class _Lines:
    """Progress for a log: the first, the last, and one every few seconds."""

    def __init__(self, console: Console, name: str) -> None:
        self._console, self._name = console, name
        self._last = ""
        self._next_at = 0.0

    def __call__(self, done: int, total: int, text: str = "") -> None:
        line = f"{self._name}: {done}/{total}" + (f", {text}" if text else "")
        now = time.monotonic()
        if line != self._last and (now >= self._next_at or done == total):
            self._console.line(line)
            self._last = line
            self._next_at = now + SECONDS_BETWEEN_LINES


def _bar(console: RichConsole) -> Progress:
    return Progress(
        TextColumn("{task.description:<10}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
        console=console,
    )
