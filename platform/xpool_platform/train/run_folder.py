"""The run's folder where nodes have no disk in common: workers write theirs, and pass it on.

The driver's node has the folder that counts. A worker elsewhere begins with a copy of the journals,
so that it goes on with their numbers and knows what was logged before, and everything that it
writes is appended to, or replaces, the same file there: at least every PASS_S, and before a
checkpoint is written, so that no step of a checkpoint is missing from the record.
"""

import logging
import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle

from xpool_platform.tracking.journal import JOURNAL, TRACKING

logger = logging.getLogger(__name__)

WORD = ".driver"
"""File in the folder by which a worker sees whether it has the driver's."""

PASS_S = 1.0
PIECE_BYTES = 8 * 2**20
PIECES_AT_ONCE = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFolder:
    """The driver's folder of a run, and how workers that do not see it write there."""

    path: str
    word: str
    receiver: ActorHandle[Any]

    def is_here(self) -> bool:
        """Whether this process sees the driver's folder itself."""
        try:
            return Path(self.path, TRACKING, WORD).read_text(encoding="ascii") == self.word
        except OSError:
            return False


class _Receiver:
    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def journals(self) -> dict[str, bytes]:
        """The journals by their names."""
        found = (self._folder / TRACKING).glob(f"*{JOURNAL}")
        return {path.name: path.read_bytes() for path in found}

    def write(self, name: str, start: int, content: bytes) -> None:
        """A piece of a file; the first of them begins it anew."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("r+b" if start else "wb") as file:
            file.seek(start)
            file.write(content)


def run_folder(run_dir: Path) -> RunFolder:
    """The folder of a run of this process, with an actor beside it that writes for others."""
    word = uuid.uuid4().hex
    tracking = run_dir / TRACKING
    tracking.mkdir(parents=True, exist_ok=True)
    (tracking / WORD).write_text(word, encoding="ascii")
    node = ray.get_runtime_context().get_node_id()
    receiver = ray.remote(_Receiver).options(num_cpus=0, label_selector={"ray.io/node-id": node})
    return RunFolder(path=str(run_dir), word=word, receiver=receiver.remote(str(run_dir)))


class PassedOn:
    """This node's copy of the folder, from the journals on; what is written in it is passed on."""

    def __init__(self, folder: RunFolder) -> None:
        self._path, self._receiver = Path(folder.path), folder.receiver
        journals: dict[str, bytes] = ray.get(self._receiver.journals.remote())
        tracking = self._path / TRACKING
        tracking.mkdir(parents=True, exist_ok=True)
        for path in tracking.glob(f"*{JOURNAL}"):
            if path.name not in journals:  # of another run that had the name
                path.rename(path.with_suffix(".former"))
        for name, content in journals.items():
            (tracking / name).write_bytes(content)
        self._seen = self._look()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self._thread.start()

    def pass_on(self) -> None:
        """Return when all that was written is in the driver's folder."""
        with self._lock:
            now = self._look()
            changed = [path for path, state in now.items() if self._seen.get(path) != state]
            # journals name the other files, which therefore go first
            for path in sorted(changed, key=lambda path: path.suffix == JOURNAL):
                grows = path.suffix == JOURNAL and path in self._seen
                self._send(path, self._seen[path][0] if grows else 0, now[path][0])
                self._seen[path] = now[path]

    def close(self) -> None:
        """Pass on the rest."""
        self._over.set()
        self._thread.join()
        self.pass_on()

    def _go_on(self) -> None:
        while not self._over.wait(PASS_S):
            try:
                self.pass_on()
            except (OSError, ray.exceptions.RayError):
                # tried again in a second; before a checkpoint it has to work
                logger.warning("what was recorded is not passed on yet", exc_info=True)

    def _look(self) -> dict[Path, tuple[int, int]]:
        """Size and modification time of all files but those that are being written.

        Journals come first: a file that they name by now is whole when its turn comes.
        """
        states = {}
        for pattern in (f"{TRACKING}/*{JOURNAL}", "**/*"):
            for path in self._path.glob(pattern):
                with suppress(FileNotFoundError):
                    if path.is_file() and path.suffix != ".part" and path not in states:
                        status = path.stat()
                        states[path] = status.st_size, status.st_mtime_ns
        return states

    def _send(self, path: Path, start: int, end: int) -> None:
        name = str(path.relative_to(self._path))
        sent: list[ray.ObjectRef] = []
        with path.open("rb") as file:
            file.seek(start)
            while start < end or not sent:
                piece = file.read(min(PIECE_BYTES, end - start))
                sent.append(self._receiver.write.remote(name, start, piece))
                start += len(piece)
                if not piece:
                    break
                if len(sent) >= PIECES_AT_ONCE:
                    ray.get(sent.pop(0))
        ray.get(sent)
