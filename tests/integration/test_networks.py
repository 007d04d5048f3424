"""Nodes with addresses of their own: network namespaces of this machine, joined by cables."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import (
    SMALL_SHAPES,
    copy_checkout,
    environment,
    finish,
    make_environment,
    start_job,
)
from hosts import Hosts, start_ray
from test_cluster import START_S
from watched_runs import losses, read_until_step, training_workers

from free_port import free_port

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NUM_STEPS = 30
OPTIONS = (
    *(*SMALL_SHAPES, "--train.num-steps", str(NUM_STEPS), "--train.evals-per-run", "1"),
    # a node of one CPU has room for one of the workers, and beside it for loading
    *("--train.num-workers", "2", "--train.cpus-per-worker", "0.6", "--data.decode-cpus", "0.4"),
    *("--model.dropout", "0"),
)


@pytest.fixture
def hosts(tmp_path) -> Iterator[Hosts]:
    hosts = Hosts(tmp_path)
    try:
        yield hosts
    finally:
        hosts.stop()


def test_two_hosts_train_one_batch_and_record_on_a_server_that_one_reaches(hosts, tmp_path):
    hosts.add("a")
    hosts.add("b")
    hosts.join("a", "10.9.0.1", "b", "10.9.0.2")
    start_ray(hosts, "a", "10.9.0.1", 1, {"b": "10.9.0.2"})
    options = (*OPTIONS, "--output-dir", str(tmp_path / "out"))
    with mlflow_server(hosts, "a", tmp_path) as uri:
        tracked = ("--tracking.uri", uri)
        process = hosts.job("a", "10.9.0.1", *options, "--run-name", "two", *tracked)
        read_until_step(process, 10)
        workers = training_workers(hosts.marker)
        assert len({os.readlink(f"/proc/{worker.pid}/ns/net") for worker in workers}) == 2
        done = finish(process)
    assert done.status == 0, done.err
    alone = start_job(*options, "--run-name", "one", "--train.num-workers", "1")
    assert finish(alone).status == 0
    expected = losses(tmp_path / "out", "one", NUM_STEPS)
    assert losses(tmp_path / "served", "two", NUM_STEPS) == pytest.approx(expected, abs=1e-4)


def test_a_submitted_job_decodes_on_one_host_and_trains_on_the_other(hosts, tmp_path):
    """Neither has the project: it comes with the job."""
    hosts.python = make_environment(tmp_path / "environment")
    hosts.environment["PATH"] = f"{hosts.python.parent}:{os.environ['PATH']}"
    checkout = copy_checkout(tmp_path / "checkout")
    hosts.add("a")
    hosts.add("b")
    hosts.join("a", "10.9.0.1", "b", "10.9.0.2")
    dashboard = free_port()
    start_ray(
        *(hosts, "a", "10.9.0.1", 2, {"b": "10.9.0.2"}),
        head_options=("--labels=xpool/work=decode", f"--dashboard-port={dashboard}"),
        options=("--labels=xpool/work=train",),
    )
    submitted = subprocess.Popen(
        [
            *(*hosts.within("a"), hosts.python, "-m", "ray.scripts.scripts", "job", "submit"),
            *("--working-dir", ".", "--", "python", "jobs/train.py", *SMALL_SHAPES),
            *("--train.num-workers", "1", "--run-name", "apart"),
        ],
        cwd=checkout,
        env=environment(
            **hosts.environment, RAY_ADDRESS=f"http://127.0.0.1:{dashboard}", PYTHONUNBUFFERED="1"
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    printed: list[str] = []
    reader = threading.Thread(target=lambda: printed.extend(submitted.stdout), daemon=True)
    reader.start()
    decoding, training = set(), set()
    while submitted.poll() is None:
        decoding |= hosts.running("xpool_platform.data.decode_child")
        training |= hosts.running("RayTrainWorker")
        time.sleep(0.3)
    reader.join()
    output = "".join(printed)
    assert submitted.returncode == 0, output
    assert "training: 12/12" in output
    assert (decoding, training) == ({"a"}, {"b"})
    assert (tmp_path / "xpool-outputs" / "runs" / "apart" / "metrics.json").is_file()


@contextmanager
def mlflow_server(hosts: Hosts, host: str, folder: Path) -> Iterator[str]:
    """A server that listens to its own host only."""
    uri = f"http://127.0.0.1:{free_port()}"
    options = ("--port", uri.rsplit(":", 1)[1], "--workers", "1")
    served = folder / "served"
    served.mkdir()
    store = ("--backend-store-uri", f"sqlite:///{served / 'mlflow.db'}")
    server = subprocess.Popen(
        [*hosts.within(host), sys.executable, "-m", "mlflow", "server", *options, *store],
        env=environment(**hosts.environment, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    ask = f"import urllib.request; urllib.request.urlopen('{uri}/health')"
    asked = [*hosts.within(host), sys.executable, "-c", ask]
    deadline = time.monotonic() + START_S
    while subprocess.run(asked, capture_output=True, check=False).returncode:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    yield uri
    server.terminate()
    server.wait()


def test_hosts_that_do_not_reach_each_other_are_named(hosts, tmp_path):
    for host in ("head", "a", "b"):
        hosts.add(host)
    hosts.join("head", "10.9.1.1", "a", "10.9.1.2")
    hosts.join("head", "10.9.2.1", "b", "10.9.2.2")
    forwarding = (*hosts.within("head"), "cat", "/proc/sys/net/ipv4/ip_forward")
    assert subprocess.check_output(forwarding).strip() == b"0"
    start_ray(hosts, "head", "10.9.1.1", 1, {"a": "10.9.1.2", "b": "10.9.2.2"})
    hosts.ip("head", "route", "add", "default", "via", "10.9.1.2")
    process = hosts.job("head", "10.9.1.1", *OPTIONS, "--output-dir", str(tmp_path / "out"))
    done = finish(process)
    assert done.status == 1
    between = (
        r"node 10\.9\.(1\.2 does not reach node 10\.9\.2\.2|2\.2 .* node 10\.9\.1\.2) \(timed out\)"
    )
    assert re.search(between, done.err), done.err
    assert "open the network between these two" in done.err
