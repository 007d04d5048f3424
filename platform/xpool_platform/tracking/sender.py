"""The thread that sends a run's journals, while its store answers and when it answers again."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from xpool_platform.tracking.journal import (
    TRACKING,
    Entry,
    journals,
    mark_sent,
    num_unsent,
    put_aside,
    unsent,
)

EVERY_S = 1.0
"""How often the journals are looked at."""

LONGEST_PAUSE_S = 5.0
"""Between two tries while the store is away."""

ENTRIES_AT_ONCE = 100

LOCK = "sending"

Say = Callable[[str], None]
"""Tells a person a line."""


class AwayError(Exception):
    """The store does not answer, or not as it should. Raised to try again later."""


class RefusedError(Exception):
    """The store answers that it will not have this, now or later."""


class Destination(Protocol):
    """Where a run's entries go. Sending an entry again must change nothing."""

    def send(self, entries: list[Entry]) -> None:
        """Send entries of one kind. Raises AwayError or RefusedError."""


class Sender:
    """Sends what the journals of a run hold and what is added to them, each entry in order.

    Of all processes one sends at a time. `say` hears when the store goes away and comes back.
    Attributes: `trouble`, why the store is away; empty: it is not. `num_refused`.
    """

    def __init__(self, run_dir: Path, destination: Destination, say: Say = lambda _: None) -> None:
        self.trouble = ""
        self.num_refused = 0
        self._folder, self._destination, self._say = run_dir / TRACKING, destination, say
        self._lock = FileLock(self._folder / LOCK, thread_local=False)
        self._wanted, self._idle = threading.Event(), threading.Condition()
        self._rounds, self._ended = 0, False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def drain(self, away_s: float) -> bool:
        """Wait until all is sent that is there now; no longer than away_s for a store that is away.

        Gives whether it was.
        """
        with self._idle:
            wanted = self._rounds + 2  # the round that goes on may have passed by
            started = time.monotonic()
            self._wanted.set()
            while self._rounds < wanted:
                self._idle.wait(0.1)
                if self.trouble and time.monotonic() - started > away_s:
                    return False
                self._wanted.set()
        return True

    def stop(self) -> None:
        """Send no more; an entry that is on its way may arrive."""
        self._ended = True
        self._wanted.set()
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        pause = 0.0
        while not self._ended:
            try:
                with self._lock.acquire(timeout=0):
                    self._send_all()
                pause = 0.0
                if self.trouble:
                    self._say("the tracking store answers again: all that was kept is sent")
                    self.trouble = ""
            except Exception as error:  # noqa: BLE001  # who waits for this thread must hear of it
                self._is_away(_reason(error))
                pause = min(LONGEST_PAUSE_S, 2 * pause or 0.5)
                threading.Event().wait(pause)
                continue
            with self._idle:
                self._rounds += 1
                self._idle.notify_all()
            self._wanted.wait(EVERY_S)
            self._wanted.clear()

    def _is_away(self, why: str) -> None:
        if not self.trouble:
            self._say(f"{why}; what is logged is kept in {self._folder} and sent later")
        self.trouble = why

    def _send_all(self) -> None:
        for journal in journals(self._folder):
            for group in _groups(unsent(journal)):
                if self._ended:
                    return
                try:
                    self._destination.send(group)
                except RefusedError:
                    self._send_singly(group)
                mark_sent(journal, group[-1].end)

    def _send_singly(self, group: list[Entry]) -> None:
        """Put aside those that are refused."""
        for entry in group:
            try:
                self._destination.send([entry])
            except RefusedError as error:
                self.num_refused += 1
                put_aside(self._folder, entry, str(error))


def send_left(run_dir: Path, destination: Destination) -> tuple[int, int]:
    """Send what earlier processes left; gives how many entries were sent and how many refused.

    Raises AwayError if the store is away, or a process is at it.
    """
    waiting = num_unsent(run_dir / TRACKING)
    sender = Sender(run_dir, destination)
    try:
        if not sender.drain(away_s=0):
            raise AwayError(sender.trouble)
    finally:
        sender.stop()
    return waiting - sender.num_refused, sender.num_refused


def _reason(error: Exception) -> str:
    if isinstance(error, Timeout):
        return "another process sends this run's record"
    return str(error) if isinstance(error, AwayError) else f"{type(error).__name__}: {error}"


def _groups(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    """Neighbours of one kind together."""
    group: list[Entry] = []
    for entry in entries:
        if group and (entry.kind != group[0].kind or len(group) == ENTRIES_AT_ONCE):
            yield group
            group = []
        group.append(entry)
    if group:
        yield group
