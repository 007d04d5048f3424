"""How many training workers a cluster has room for, beside the loading of their batches."""

from typing import Any

import ray

from xpool_platform.config import ExperimentConfig
from xpool_platform.placement import TRAIN, does, living_nodes, num_training_cpus


def fitting_workers(config: ExperimentConfig) -> int:
    """Workers that the living nodes hold, each on one of them; train.num_workers at most.

    What other jobs have taken is not subtracted, and nodes that are to be taken away do not count.
    """
    return min(config.train.num_workers, _room(config))


def room_to_evaluate(config: ExperimentConfig, num_workers: int) -> bool:
    """Whether train.eval_workers fit beside so many training workers and their loading."""
    return _room(config) >= num_workers + config.train.eval_workers


def leaving_nodes() -> dict[str, str]:
    """Nodes that are to be taken away, as spot instances are: their addresses, by Ray's id."""
    # Ray has no public name for it outside its training workers
    drained = ray._private.state.state.get_draining_nodes()
    if not drained:
        return {}
    addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
    return {node_id: addresses.get(node_id, node_id) for node_id in drained}


def room_for_trainings(config: ExperimentConfig) -> int:
    """Trainings that fit at once, each with its own evaluation and loading; 1 at least."""
    train, nodes = config.train, _staying_nodes()
    workers = train.num_workers + train.eval_workers
    fitting = _places(nodes, config) // workers
    cpus, decode = workers * train.cpus_per_worker, config.data.decode_cpus
    while fitting > 1 and fitting * cpus > num_training_cpus(nodes, decode, fitting):
        fitting -= 1
    return max(1, fitting)


def _room(config: ExperimentConfig) -> int:
    nodes = _staying_nodes()
    cpus = num_training_cpus(nodes, config.data.decode_cpus)
    return max(0, min(_places(nodes, config), int(cpus / config.train.cpus_per_worker)))


def _staying_nodes() -> list[dict[str, Any]]:
    """The living nodes but those that are to be taken away."""
    leaving = leaving_nodes()
    return [node for node in living_nodes() if node["NodeID"] not in leaving]


def _places(nodes: list[dict[str, Any]], config: ExperimentConfig) -> int:
    """Workers that the nodes hold, each on one of them, decoding aside."""
    return sum(_places_on(node["Resources"], config) for node in nodes if does(node, TRAIN))


def _places_on(resources: dict[str, float], config: ExperimentConfig) -> int:
    train = config.train
    fitting = int(resources.get("CPU", 0.0) / train.cpus_per_worker)
    if not train.use_gpu:
        return fitting
    on_each_gpu = int(1 / train.gpus_per_worker)
    return min(fitting, int(resources.get("GPU", 0.0)) * on_each_gpu)
