"""What a person sees: progress as bars on a terminal and as a few lines in a log, then a table."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console as RichConsole
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from xpool_platform.report import RetrievalReport

SECONDS_BETWEEN_LINES = 5.0

COLUMNS = ("R1", "R5", "R10", "MdR", "MnR")
TITLES = {"R1": "R@1", "R5": "R@5", "R10": "R@10"}


class Stage(Protocol):
    """One stage of a job."""

    def __call__(self, done: int, total: int, text: str = "") -> None:
        """How far it is."""


class Console:
    """Standard output for people."""

    def __init__(self) -> None:
        self._rich = RichConsole(soft_wrap=True, highlight=False)

    def line(self, text: str) -> None:
        """A line of text."""
        self._rich.print(text, markup=False)

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

    def table(self, report: RetrievalReport, caption: str) -> None:
        """The metrics of both directions with 95 % intervals, beside chance."""
        table = Table(
            title=f"{report.split}: {report.num_captions} captions, {report.num_videos} videos",
            caption=caption,
            title_justify="left",
            caption_justify="left",
        )
        table.add_column("")
        for name in COLUMNS:
            table.add_column(TITLES.get(name, name), justify="right")
        for direction, words in (("t2v", "text to video"), ("v2t", "video to text")):
            keys = [f"{direction}/{name}" for name in COLUMNS]
            table.add_row(
                words,
                *(
                    f"{report.metrics[key]:.1f}\n[dim]{report.intervals[key][0]:.1f}–"
                    f"{report.intervals[key][1]:.1f}[/dim]"
                    for key in keys
                ),
            )
            table.add_row(
                "[dim]  chance[/dim]", *(f"[dim]{report.chance[key]:.1f}[/dim]" for key in keys)
            )
        self._rich.print(table)


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
