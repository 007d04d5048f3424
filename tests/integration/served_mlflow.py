"""A real MLflow server on this machine, which can go away and come back."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import environment

from free_port import free_port

START_S = 120


class ServedMlflow:
    """Its store and artifacts lie in a folder. Attributes: `uri`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen | None = None

    @property
    def store(self) -> str:
        """The store behind it, which can be read without it."""
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    def start(self) -> None:
        """Start it, as before; returns when it answers."""
        served = ("--artifacts-destination", str(self.folder / "artifacts"), "--serve-artifacts")
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--port", str(self.port)),
                *("--workers", "1", "--backend-store-uri", self.store, *served),
            ],
            env=environment(
                MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false", MLFLOW_DISABLE_TELEMETRY="true"
            ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_S
        while not self.answers():
            assert self._process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def answers(self) -> bool:
        """Whether it does."""
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=1):
                return True
        except OSError:
            return False

    def signal(self, number: signal.Signals) -> None:
        """To all of its processes."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """Make it go away."""
        assert self._process is not None
        self.signal(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """Make it go away, if it is there."""
        if self._process is not None:
            self.kill()


@contextmanager
def served_mlflow(folder: Path) -> Iterator[ServedMlflow]:
    """A server that answers."""
    server = ServedMlflow(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
