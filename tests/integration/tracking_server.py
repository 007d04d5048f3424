"""A real MLflow server for tests, on this machine only."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import environment

START_S = 120


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@contextmanager
def tracking_server(folder: Path) -> Iterator[str]:
    """The address of a server with its database and its artifacts in a folder."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    store = ("--backend-store-uri", f"sqlite:///{folder / 'served.db'}")
    artifacts = ("--serve-artifacts", "--artifacts-destination", str(folder / "artifacts"))
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
                *("--port", str(port), "--workers", "1", *store, *artifacts),
            ],
            env=environment(
                MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false", MLFLOW_DISABLE_TELEMETRY="true"
            ),
            stdout=log,
            stderr=log,
        )
    try:
        _wait_for(server, address)
        yield address
    finally:
        server.terminate()
        server.wait(30)


def _wait_for(server: subprocess.Popen, address: str) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server has ended"
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.2)
    raise AssertionError("the server does not answer")
