"""`make ui` as somebody types it, on a store with runs and without."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, environment, finish, start_job
from mlflow.tracking import MlflowClient

from xpool_platform.tracking.views import view_tags


@pytest.fixture
def output(tmp_path) -> Path:
    """An output folder with an experiment of one run, and one of none."""
    folder = tmp_path / "out puts"
    folder.mkdir()
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    for name in ("shapes", "empty"):
        experiment = client.create_experiment(name, (folder / "mlartifacts").as_uri())
        for key, value in view_tags().items():
            client.set_experiment_tag(experiment, key, value)
    run = client.create_run(client.get_experiment_by_name("shapes").experiment_id, run_name="one")
    client.log_metric(run.info.run_id, "test/t2v/R1", 44.8)
    client.set_terminated(run.info.run_id)
    return folder


@contextmanager
def typed(output: Path, *arguments: str) -> Iterator[subprocess.Popen]:
    """`make ui` with the packages of this environment, ended by Ctrl-C."""
    # what make would set up is there: these tests run in it
    given = ("--old-file", ".venv/.complete", f"BIN={Path(sys.executable).parent}")
    process = subprocess.Popen(
        ["make", "--no-print-directory", *given, "ui", *arguments],
        cwd=ROOT,
        env=environment(XPOOL_OUTPUT_DIR=str(output)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)


def test_make_ui_shows_the_store_to_this_machine_alone(output):
    with typed(output, "PORT=0") as process:
        lines = [process.stdout.readline() for _ in range(3)]
        address = lines[1].split()[1]
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{address}/") as page:
            assert b"MLflow" in page.read()
        client = MlflowClient(address)
        found = client.get_experiment_by_name("shapes").experiment_id
        (run,) = client.search_runs([found])
        assert run.data.metrics == {"test/t2v/R1": 44.8}
        expected = f"shapes: {address}/#/experiments/{found}/runs?workflowType=machine_learning"
        assert lines[2].strip() == f"{expected}&viewStateShareKey=retrieval"

        port = int(address.rsplit(":", 1)[1])
        tree = psutil.Process(process.pid).children(recursive=True)
        doors = {
            door.laddr
            for each in tree
            for door in each.net_connections(kind="inet")
            if door.status == psutil.CONN_LISTEN
        }
        assert doors == {("127.0.0.1", port)}
        for other in addresses_of_this_machine():
            with pytest.raises(OSError, match=r"refused|timed out"):
                socket.create_connection((other, port), timeout=5).close()
    _, alive = psutil.wait_procs(tree, timeout=30)
    assert not alive


def addresses_of_this_machine() -> list[str]:
    return [
        address.address
        for of_interface in psutil.net_if_addrs().values()
        for address in of_interface
        if address.family == socket.AF_INET and not address.address.startswith("127.")
    ]


def test_without_runs_it_says_how_to_make_some(tmp_path):
    done = finish(start_job(script="jobs/ui.py", XPOOL_OUTPUT_DIR=str(tmp_path)))
    assert done.status == 1
    assert done.err.startswith(f"error: there is no run in {tmp_path} yet; `make train`")
    assert not list(tmp_path.iterdir())


def test_a_port_that_is_taken_is_named(output):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        arguments = ("--port", port, "--output-dir", str(output))
        done = finish(start_job(*arguments, script="jobs/ui.py"))
    assert done.status == 1
    assert done.err.startswith(f"error: port {port} of 127.0.0.1 is not free")


def test_a_store_that_mlflow_cannot_read_is_an_error(tmp_path):
    (tmp_path / "mlflow.db").write_text("no database")
    arguments = ("--port", "0", "--output-dir", str(tmp_path))
    done = finish(start_job(*arguments, script="jobs/ui.py"))
    assert done.status == 1
    assert "MLflow's server did not start" in done.err
    assert str(tmp_path / "mlflow_ui.log") in done.err
