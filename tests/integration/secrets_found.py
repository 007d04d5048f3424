"""Where given secrets can be read: in files, and by looking at processes while a job runs."""

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

CHILD = "xpool_platform.data.decode_child"


def found_in(content: bytes, secrets: Collection[str]) -> bool:
    return any(secret.encode() in content for secret in secrets)


def files_with(folder: Path, secrets: Collection[str]) -> list[str]:
    """The regular files below a folder that hold one of the secrets."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [str(path) for path in paths if found_in(path.read_bytes(), secrets)]


class Watched:
    """Attributes: `shown`, commands of processes that hold a secret; `told`, commands of decoding
    processes whose environment does; `num_decoding`, how many of these were looked at."""

    def __init__(self) -> None:
        self.shown: set[str] = set()
        self.told: set[str] = set()
        self.num_decoding = 0


@contextmanager
def processes_watched(secrets: Collection[str]) -> Iterator[Watched]:
    """Look at all processes of this machine several times a second."""
    watched, over = Watched(), threading.Event()
    seen: set[int] = set()

    def look() -> None:
        while not over.wait(0.2):
            for process in psutil.process_iter():
                with suppress(psutil.Error, FileNotFoundError):
                    command = " ".join(process.cmdline())
                    if found_in(command.encode(), secrets):
                        watched.shown.add(command)
                    if CHILD in command and process.pid not in seen:
                        values = "\n".join(process.environ().values())
                        seen.add(process.pid)
                        if found_in(values.encode(), secrets):
                            watched.told.add(command)
            watched.num_decoding = len(seen)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield watched
    finally:
        over.set()
        thread.join()
