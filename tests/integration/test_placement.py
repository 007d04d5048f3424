"""Where a cluster's labels send the work, on a real one: a head for the driver alone, a node of 2
CPUs and a GPU (so it says) to train, one of 3 CPUs to decode."""

import pytest
import ray
from ray.cluster_utils import Cluster
from test_capacity import config

from xpool_platform.cluster_check import check_cluster, check_decoding
from xpool_platform.errors import UserError
from xpool_platform.placement import WORK, num_training_cpus
from xpool_platform.train.capacity import fitting_workers, room_for_trainings

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def cluster():
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    cluster.add_node(num_cpus=2, num_gpus=1, labels={WORK: "train"})
    cluster.add_node(num_cpus=3, labels={WORK: "decode"})
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.usefixtures("cluster")
def test_decoding_takes_nothing_from_the_nodes_that_train():
    assert fitting_workers(config(num_workers=4)) == 2
    assert room_for_trainings(config(decode_cpus=1.0)) == 2
    assert room_for_trainings(config(decode_cpus=2.0)) == 1
    check_cluster(config(num_workers=2, decode_cpus=3.0))


def test_cpus_that_hold_no_whole_task_decode_nothing():
    def node(cpus: float, kind: str = "") -> dict:
        return {"Resources": {"CPU": cpus}, "Labels": {WORK: kind} if kind else {}}

    nodes = [node(1, "decode"), node(1, "decode"), node(4)]
    assert num_training_cpus(nodes, 2.0) == 2
    assert num_training_cpus(nodes, 1.0) == 4
    assert num_training_cpus(nodes, 1.0, 3) == 3
    assert num_training_cpus([node(2, "decode"), node(4)], 0.4, 5) == 4


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"num_workers": 4, "decode_cpus": 1.0},
            "need 5 CPUs, and the cluster has 5 .2 on nodes to train, 3 on nodes to decode, 0 on "
            "nodes for both, by their label xpool/work.; set --train.num-workers 2",
        ),
        ({"decode_cpus": 4.0}, "4 are more than any node that decodes has: .* 3 or less"),
        (
            {"num_workers": 2, "use_gpu": True},
            "train.num_workers 2 x train.gpus_per_worker 1 need 2 GPUs, and the cluster has 1 "
            ".1 on nodes to train, 0 on nodes to decode, .*; set --train.num-workers 1 or add",
        ),
    ],
)
def test_what_never_fits_is_refused_with_what_each_kind_of_node_has(options, words):
    with pytest.raises(UserError, match=words):
        check_cluster(config(**options))


def test_nodes_that_nobody_meant_are_refused(cluster):
    added = cluster.add_node(num_cpus=1, labels={WORK: "training"})
    try:
        for check in (check_cluster, check_decoding):
            with pytest.raises(UserError, match="xpool/work=training, which is neither train nor"):
                check(config())
    finally:
        cluster.remove_node(added)


def test_a_cluster_without_a_node_that_decodes_is_refused(cluster):
    decoding = next(node for node in cluster.worker_nodes if node.node_id in _labelled("decode"))
    cluster.remove_node(decoding)
    with pytest.raises(UserError, match=r"any node that decodes has.*--labels=xpool/work=decode"):
        check_cluster(config())


def _labelled(kind: str) -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Labels"].get(WORK) == kind}
