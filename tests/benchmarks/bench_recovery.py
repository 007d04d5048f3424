"""From the kill of a node to training again, with a spare node and with fewer workers."""

import os
import statistics
import time

import pytest
from machine import machine_name
from ray.cluster_utils import Cluster
from test_nodes import node_that_trains, read_until, start
from watched_runs import read_until_step

NUM_RUNS = int(os.environ.get("BENCH_RUNS", "3"))
TRAINS = r"training: \d+/\d+, loss"


@pytest.mark.parametrize("num_spare", [1, 0], ids=["with a spare node", "on fewer workers"])
def test_recovery(num_spare, tmp_path, capsys) -> None:
    """Nodes of one CPU; the head has the one for loading."""
    taken = []
    for run in range(NUM_RUNS):
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        try:
            for _ in range(2 + num_spare):
                cluster.add_node(num_cpus=1)
            cluster.wait_for_nodes()
            process = start(cluster, tmp_path, f"{num_spare}-{run}")
            read_until_step(process, 50)
            cluster.remove_node(node_that_trains(cluster), allow_graceful=False)
            killed_s = time.monotonic()
            read_until(process, "training was interrupted")
            taken.append(read_until(process, TRAINS)[1] - killed_s)
            process.terminate()
            process.communicate(timeout=60)
        finally:
            cluster.shutdown()
    with capsys.disabled():
        listed = ", ".join(f"{seconds:.0f}" for seconds in taken)
        kind = "with a spare node" if num_spare else "on fewer workers"
        print(f"\n{machine_name()}; from the kill of a node to training again, {kind}: ", end="")
        print(f"median {statistics.median(taken):.0f} s of {listed}")
