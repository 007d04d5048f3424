"""How many trainings a cluster has room for, on a real one whose nodes say what they have."""

from dataclasses import replace

import pytest
import ray
from ray.cluster_utils import Cluster

from xpool_platform.cluster_check import check_cluster
from xpool_platform.config import ExperimentConfig
from xpool_platform.errors import UserError
from xpool_platform.experiments import shapes
from xpool_platform.train.capacity import room_for_trainings

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def nodes():
    """One node of 4 CPUs and 2 GPUs, as it says, and one of 3 CPUs."""
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 4, "num_gpus": 2, "include_dashboard": False},
    )
    cluster.add_node(num_cpus=3)
    ray.init(address=cluster.address, log_to_driver=False)
    yield
    ray.shutdown()
    cluster.shutdown()


def config(*, decode_cpus: float = 0.5, **train) -> ExperimentConfig:
    before = shapes()
    plain = {"num_workers": 1, "cpus_per_worker": 1.0, **train}
    return replace(
        before,
        data=replace(before.data, decode_cpus=decode_cpus),
        train=replace(before.train, **plain),
    )


@pytest.mark.parametrize(
    ("train", "room"),
    [
        ({}, 4),  # 7 CPUs, 1.5 for each
        ({"num_workers": 2}, 2),
        ({"eval_workers": 1}, 2),
        ({"cpus_per_worker": 2.0}, 2),  # two on one node, one on the other, and their loading
        ({"cpus_per_worker": 3.0}, 2),
        ({"use_gpu": True}, 2),
        ({"use_gpu": True, "num_workers": 2}, 1),
        ({"use_gpu": True, "gpus_per_worker": 0.5, "cpus_per_worker": 0.5}, 4),
        ({"use_gpu": True, "gpus_per_worker": 0.4, "cpus_per_worker": 0.5}, 4),
        ({"use_gpu": True, "gpus_per_worker": 0.25, "cpus_per_worker": 0.5}, 7),
    ],
)
def test_trainings_that_fit(train, room):
    assert room_for_trainings(config(**train)) == room
    check_cluster(config(**train))


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ({"num_workers": 8}, "need 8.5 CPUs, and the cluster has 7"),
        ({"use_gpu": True, "num_workers": 4}, "need 4 GPUs, and the cluster has 2"),
    ],
)
def test_what_never_fits_is_refused(train, words):
    with pytest.raises(UserError, match=words):
        check_cluster(config(**train))


def test_workers_of_one_training_do_not_share_a_gpu():
    with pytest.raises(ValueError, match="where NCCL refuses to connect them"):
        config(use_gpu=True, gpus_per_worker=0.5, num_workers=2)
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        config(use_gpu=True, gpus_per_worker=2.0)
