"""The journal of a run's record: all that is to be sent, on disk before it is sent.

Every process that records has a file of its own, `NNNN-WHO.jsonl`, to which it only appends; its
first line says to which run it belongs. Beside it lies how much of it was sent. Files are sent in
the order of their numbers, so that what a later process repeats is known by then.
"""

import errno
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRACKING = "tracking"
"""The folder of the journals, in that of the run."""

JOURNAL, SENT, REFUSED = ".jsonl", ".sent", "refused.jsonl"

READ_BYTES = 1 << 22
"""Read at once; an entry is shorter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Where a run is recorded."""

    uri: str
    run_id: str
    began_s: float
    """When its first journal was begun, in seconds since 1970."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """Something to be sent. `end` is the place in its file where it ends."""

    kind: str
    content: Mapping[str, Any]
    end: int


class Journal:
    """A file of entries, written by this process, whichever of its threads."""

    def __init__(self, run_dir: Path, who: str, *, uri: str, run_id: str) -> None:
        folder = run_dir / TRACKING
        folder.mkdir(parents=True, exist_ok=True)
        before = journals(folder)
        number = 1 + max((int(path.name.split("-")[0]) for path in before), default=0)
        path = folder / f"{number:04d}-{who}-{os.getpid()}{JOURNAL}"
        self.run = Run(
            uri=uri,
            run_id=run_id,
            began_s=run_of(before[0]).began_s if before else time.time(),
        )
        self._lock = threading.Lock()
        self._file = path.open("xb", buffering=0)
        self.write(
            "run", uri=self.run.uri, run_id=self.run.run_id, began_s=round(self.run.began_s, 3)
        )

    def write(self, kind: str, **content: Any) -> None:
        """Add an entry: it outlives this process from here on. Raises OSError."""
        line = json.dumps({"kind": kind, **content}, ensure_ascii=False).encode() + b"\n"
        with self._lock:
            start = self._file.tell()
            if self._file.write(line) != len(line):  # the disk is full
                self._file.truncate(start)
                self._file.seek(start)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._file.name)

    def close(self) -> None:
        """Nothing follows."""
        self._file.close()


def journals(folder: Path) -> list[Path]:
    """The files of a folder of journals that have begun, in the order in which they are sent."""
    found = sorted(path for path in folder.glob(f"[0-9]*{JOURNAL}"))
    return [path for path in found if b"\n" in _first_bytes(path)]


def run_of(journal: Path) -> Run:
    """To which run a journal belongs."""
    said = json.loads(_first_bytes(journal).split(b"\n", 1)[0])
    return Run(uri=said["uri"], run_id=said["run_id"], began_s=said["began_s"])


def unsent(journal: Path) -> Iterator[Entry]:
    """The whole entries that were not sent yet, in order."""
    start = _sent_bytes(journal)
    with journal.open("rb") as file:
        file.seek(start)
        while block := file.read(READ_BYTES):
            whole = block[: block.rfind(b"\n") + 1]
            if not whole:  # the last line of a process that was killed, or is being written
                return
            for line in whole.splitlines(keepends=True):
                start += len(line)
                said = json.loads(line)
                if said["kind"] != "run":
                    yield Entry(kind=said.pop("kind"), content=said, end=start)
            file.seek(start)


def mark_sent(journal: Path, end: int) -> None:
    """Remember that the entries up to this place were sent."""
    temporary = journal.with_suffix(f"{SENT}.part")
    temporary.write_text(str(end), encoding="ascii")
    temporary.replace(journal.with_suffix(SENT))


def put_aside(folder: Path, entry: Entry, reason: str) -> None:
    """Keep an entry that the store refuses, with its reason."""
    line = json.dumps({"reason": reason, "kind": entry.kind, **entry.content})
    with (folder / REFUSED).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def num_unsent(folder: Path) -> int:
    """Entries that wait to be sent."""
    return sum(1 for journal in journals(folder) for _ in unsent(journal))


def last_status(run_dir: Path) -> tuple[str, int] | None:
    """How a run was said to be last, and since when, in milliseconds; None: nothing was said."""
    said = [entry for entry in _entries(run_dir) if entry["kind"] == "status"]
    return (said[-1]["status"], said[-1]["time_ms"]) if said else None


def metric_history(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """All metrics of a run by name: (step, value), each step once, rising."""
    history: dict[str, dict[int, float]] = {}
    for said in _entries(run_dir):
        if said["kind"] == "metrics":
            for step, metrics in said["steps"].items():
                for name, value in metrics.items():
                    history.setdefault(name, {}).setdefault(int(step), value)
    return {name: sorted(values.items()) for name, values in history.items()}


def _entries(run_dir: Path) -> Iterator[dict[str, Any]]:
    """All whole entries of a run, sent or not."""
    for journal in journals(run_dir / TRACKING):
        with journal.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                yield json.loads(line)


def _first_bytes(journal: Path) -> bytes:
    with journal.open("rb") as file:
        return file.read(4096)


def _sent_bytes(journal: Path) -> int:
    path = journal.with_suffix(SENT)
    return int(path.read_text(encoding="ascii")) if path.is_file() else 0
