"""A cluster whose nodes come and go while a training runs on them."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from conftest import SMALL_SHAPES, finish, start_job
from ray.cluster_utils import Cluster
from watched_runs import losses, read_until_step

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NUM_STEPS = 400
OPTIONS = (
    *(*SMALL_SHAPES, "--train.num-steps", str(NUM_STEPS), "--train.evals-per-run", "1"),
    *("--train.checkpoint-steps", "25", "--train.num-workers", "2", "--train.cpus-per-worker", "1"),
    *("--model.dropout", "0"),  # what a worker draws depends on how many there are
    # rounding depends on it, too: small steps keep it small, and other batches would still show
    *("--optim.clip-lr", "1e-5", "--optim.pooling-lr", "1e-5"),
)


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> list[float]:
    """The losses on one worker, left in peace."""
    output = tmp_path_factory.mktemp("whole")
    alone = (*OPTIONS, "--train.num-workers", "1", "--run-name", "whole")
    whole = finish(start_job(*alone, "--output-dir", str(output)))
    assert whole.status == 0, whole.err
    found = losses(output, "whole", NUM_STEPS)
    assert np.ptp(found) > 0.1
    return found


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head with a CPU for loading and two nodes with a CPU each for training."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


def start(cluster: Cluster, output: Path, run_name: str) -> subprocess.Popen:
    options = (*OPTIONS, "--output-dir", str(output), "--run-name", run_name)
    return start_job(*options, RAY_ADDRESS=cluster.address)


def read_until(process: subprocess.Popen, pattern: str) -> tuple[str, float]:
    """The line that matches, and when it came."""
    for line in process.stdout:
        if re.search(pattern, line):
            return line, time.monotonic()
    raise AssertionError(f"the job ended before {pattern!r}: {process.stderr.read()}")


@pytest.mark.long
def test_training_goes_on_with_fewer_nodes_and_takes_them_back(expected, cluster, tmp_path):
    process = start(cluster, tmp_path, "nodes")
    read_until_step(process, 100)
    cluster.remove_node(list(cluster.worker_nodes)[-1], allow_graceful=False)

    read_until(process, "training was interrupted")
    read_until(process, r"training: \d+/\d+, loss")
    cluster.add_node(num_cpus=1)
    read_until(process, "there is room for more workers")
    done = finish(process)
    assert done.status == 0, done.err
    assert losses(tmp_path, "nodes", NUM_STEPS) == pytest.approx(expected, abs=1e-3)


def test_a_spare_node_takes_over(expected, cluster, tmp_path):
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    process = start(cluster, tmp_path, "spare")
    read_until_step(process, 100)
    cluster.remove_node(node_that_trains(cluster), allow_graceful=False)
    done = finish(process)
    assert done.status == 0, done.err
    assert "training was interrupted" in done.out
    assert "going on from step" in done.out
    assert "have room for" not in done.out
    assert losses(tmp_path, "spare", NUM_STEPS) == pytest.approx(expected, abs=1e-3)


def node_that_trains(cluster: Cluster) -> Any:
    """A node whose raylet has a training worker among its children."""
    for node in cluster.worker_nodes:
        raylet = node.all_processes["raylet"][0].process
        children = psutil.Process(raylet.pid).children(recursive=True)
        if any("RayTrainWorker" in " ".join(child.cmdline()) for child in children):
            return node
    raise AssertionError("no node trains")


def take_away(cluster: Cluster, node: Any, within_s: int) -> None:
    """What an autoscaler tells Ray when the cloud takes a spot instance back."""
    ray = (sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--address", cluster.address)
    reason = ("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot")
    deadline = ("--deadline-remaining-seconds", str(within_s))
    subprocess.run([*ray, "--node-id", node.node_id, *reason, *deadline], check=True)


@pytest.mark.long
def test_training_leaves_a_node_before_it_is_taken_away(expected, cluster, tmp_path):
    """A spare node has come by then, so that there are as many workers as before."""
    process = start(cluster, tmp_path, "spot")
    read_until_step(process, 60)
    taken = list(cluster.worker_nodes)[-1]
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    take_away(cluster, taken, within_s=120)
    started = time.monotonic()
    read_until(process, r"nodes are to be taken away \(")
    line, left_s = read_until(process, r"going on from step \d+")
    assert left_s - started < 20
    assert int(line.split()[-1]) % 25  # a checkpoint of its own
    read_until(process, r"training: \d+/\d+, loss")
    cluster.remove_node(taken, allow_graceful=False)
    done = finish(process)
    assert done.status == 0, done.err
    assert "training was interrupted" not in done.out
    assert losses(tmp_path, "spot", NUM_STEPS) == pytest.approx(expected, abs=1e-3)
