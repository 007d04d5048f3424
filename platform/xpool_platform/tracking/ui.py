"""MLflow's pages on the store in an output folder, for this machine only."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from xpool_platform.errors import UserError
from xpool_platform.tracking.views import RETRIEVAL, TAG
from xpool_platform.tracking.where import STORE, runs_page

HOST = "127.0.0.1"
LOG = "mlflow_ui.log"
START_S = 120.0
"""The longest that the server's start may take."""

LEFT_OUT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
"""Seven processes for jobs that nobody asks for here, and word to MLflow's makers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedStore:
    """A server that answers."""

    address: str
    process: subprocess.Popen
    log: Path
    """What it says."""

    def pages(self) -> dict[str, str]:
        """The address of the table of runs of each experiment that has some, by its name."""
        from mlflow.tracking import MlflowClient  # noqa: PLC0415  # takes seconds

        client = MlflowClient(tracking_uri=self.address)
        pages = {}
        for found in client.search_experiments():
            if client.search_runs([found.experiment_id], max_results=1):
                view = RETRIEVAL if f"{TAG}{RETRIEVAL.key}" in found.tags else None
                pages[found.name] = runs_page(self.address, found.experiment_id, view)
        return pages


@contextmanager
def served_store(output_dir: Path, port: int) -> Iterator[ServedStore]:
    """MLflow's server on an output folder's store until the block ends; port 0: any free one.

    Raises UserError if there is no store, the port is in use, or the server ends.
    """
    store = output_dir / STORE
    if not store.is_file():
        raise UserError(
            f"there is no run in {output_dir} yet; `make train` or `make demo-sweep` makes some, "
            "or name the folder of others by XPOOL_OUTPUT_DIR"
        )
    port = _free(port)
    log = output_dir / LOG
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)]
    places = ["--backend-store-uri", f"sqlite:///{store}"]
    # for experiments that somebody makes in the pages; those of ours name their place
    places += ["--artifacts-destination", str(output_dir / "mlartifacts")]
    with log.open("w", encoding="utf-8") as file:
        server = subprocess.Popen(
            [*command, *places, "--workers", "1"],
            env=os.environ | LEFT_OUT,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        _wait_for(server, f"http://{HOST}:{port}", log)
        yield ServedStore(address=f"http://{HOST}:{port}", process=server, log=log)
    finally:
        _end(server)


def _free(port: int) -> int:
    try:
        with socket.create_server((HOST, port)) as taken:
            return taken.getsockname()[1]
    except (OSError, OverflowError) as error:
        raise UserError(
            f"port {port} of {HOST} is not free; name another one, as in `make ui PORT=5050`"
        ) from error


def _wait_for(server: subprocess.Popen, address: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.2)
    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    raise UserError(f"MLflow's server did not start ({' '.join(last)}); all it said is in {log}")


def _end(server: subprocess.Popen) -> None:
    """End a server with the processes that it started."""
    try:
        tree = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in tree:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(tree, timeout=10)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
