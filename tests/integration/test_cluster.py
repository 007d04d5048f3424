"""`ray job submit` to a cluster whose nodes have, and have not, the checkout."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import SMALL_SHAPES, copy_checkout, environment, make_environment, processes_of

from free_port import free_port

pytestmark = [pytest.mark.ray, pytest.mark.slow]

START_S = 60


class Cluster:
    """Raylets of this machine, each in its own folder, with token authentication on."""

    def __init__(self, tmp_path: Path, python: Path) -> None:
        self.python = python
        self.port, self.dashboard_port = free_port(), free_port()
        self.marker = uuid.uuid4().hex
        self.temp_dir = Path(f"/tmp/xpool-test-{self.marker[:8]}")
        self.environment = environment(
            PATH=f"{python.parent}:{os.environ['PATH']}",
            RAY_AUTH_MODE="token",
            RAY_AUTH_TOKEN=uuid.uuid4().hex * 2,
            RAY_ADDRESS=f"http://127.0.0.1:{self.dashboard_port}",
            TEST_MARKER=self.marker,
            HOME=str(tmp_path),
        )
        self.raylets: list[subprocess.Popen] = []

    def start(self, cwd: Path, *arguments: str) -> None:
        environment = {k: v for k, v in self.environment.items() if k != "RAY_ADDRESS"}
        self.raylets.append(
            subprocess.Popen(
                [self.python, "-m", "ray.scripts.scripts", "start", "--block", *arguments],
                cwd=cwd,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )

    def start_head(self, cwd: Path, num_cpus: int) -> None:
        self.start(
            cwd,
            *("--head", f"--port={self.port}", f"--num-cpus={num_cpus}"),
            *("--dashboard-host=127.0.0.1", f"--dashboard-port={self.dashboard_port}"),
            *("--ray-client-server-port", str(free_port()), "--disable-usage-stats"),
            *(f"--dashboard-agent-listen-port={free_port()}", f"--temp-dir={self.temp_dir}"),
        )
        self.wait("the head answers", "list")

    def join(self, cwd: Path, num_cpus: int) -> None:
        self.start(
            cwd,
            *(f"--address=127.0.0.1:{self.port}", f"--num-cpus={num_cpus}"),
            *(f"--dashboard-agent-listen-port={free_port()}", "--disable-usage-stats"),
        )

    def job(self, *arguments: str, cwd: Path, timeout_s: float = 300):
        return subprocess.run(
            [self.python, "-m", "ray.scripts.scripts", "job", *arguments],
            cwd=cwd,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def wait(self, what: str, *arguments: str) -> None:
        deadline = time.monotonic() + START_S
        while (done := self.job(*arguments, cwd=Path("/"))).returncode:
            assert time.monotonic() < deadline, f"{what}: {done.stdout}{done.stderr}"
            time.sleep(0.5)

    def stop(self) -> None:
        for raylet in self.raylets:
            raylet.terminate()
        for raylet in self.raylets:
            raylet.wait(timeout=60)
        for process in processes_of(self.marker):
            process.kill()


@contextmanager
def cluster(tmp_path: Path, python: Path) -> Iterator[Cluster]:
    started = Cluster(tmp_path, python)
    try:
        yield started
    finally:
        started.stop()


def check_trained(done: subprocess.CompletedProcess) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    for words in (
        "corpus: 68/68",
        "training: 12/12",
        "text to video",
        "mlflow ui --backend-store-uri",
    ):
        assert words in done.stdout
    assert "succeeded" in done.stdout


@pytest.mark.long
def test_a_job_on_a_head_that_was_started_in_the_checkout(tmp_path):
    checkout = copy_checkout(tmp_path / "checkout")
    with cluster(tmp_path, Path(sys.executable)) as nodes:
        nodes.start_head(checkout, num_cpus=2)
        done = nodes.job("submit", "--", "python", "jobs/train.py", *SMALL_SHAPES, cwd=tmp_path)
        check_trained(done)
        assert (checkout / "outputs" / "mlflow.db").is_file()


@pytest.fixture
def python_without_the_project(tmp_path) -> Path:
    """As a cluster's nodes have it."""
    python = make_environment(tmp_path / "environment")
    for name, status in (("ray", 0), ("xpool", 1), ("xpool_platform", 1)):
        found = subprocess.run([python, "-c", f"import {name}"], cwd="/", check=False)
        assert found.returncode == status, name
    return python


@pytest.mark.long
def test_a_job_on_nodes_that_do_not_have_the_checkout(tmp_path, python_without_the_project):
    checkout = copy_checkout(tmp_path / "checkout")
    for name in ("head", "node"):
        (tmp_path / name).mkdir()
    with cluster(tmp_path, python_without_the_project) as nodes:
        nodes.start_head(tmp_path / "head", num_cpus=0)
        nodes.join(tmp_path / "node", num_cpus=2)
        time.sleep(10)  # until the second raylet has joined
        submit = ("submit", "--working-dir", ".", "--", "python")
        done = nodes.job(
            *(*submit, "jobs/train.py", *SMALL_SHAPES, "--run-name", "one"), cwd=checkout
        )
        check_trained(done)
        # the copy of the checkout is thrown away with the cluster, so results go home
        assert (tmp_path / "xpool-outputs" / "mlflow.db").is_file()
        assert str(tmp_path / "xpool-outputs") in done.stdout
        done = nodes.job(*submit, "jobs/evaluate.py", "--checkpoint", "one", cwd=checkout)
        assert done.returncode == 0, done.stdout + done.stderr
        for words in ("decoding: 0/0", "captions", "QB-Norm", "xpool-outputs/evaluations"):
            assert words in done.stdout
