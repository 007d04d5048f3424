"""How many training workers a cluster has room for, beside the loading of their batches."""

import ray

from xpool_platform.config import ExperimentConfig


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
    train = config.train
    nodes = _nodes()
    workers = train.num_workers + train.eval_workers
    places = sum(_fitting_on(node, config) for node in nodes)
    each = workers * train.cpus_per_worker + config.data.decode_cpus
    cpus = sum(node.get("CPU", 0.0) for node in nodes)
    return max(1, min(places // workers, int(cpus / each)))


def _room(config: ExperimentConfig) -> int:
    train, nodes = config.train, _nodes()
    room = sum(_fitting_on(node, config) for node in nodes)
    cpus = sum(node.get("CPU", 0.0) for node in nodes) - config.data.decode_cpus
    return max(0, min(room, int(cpus / train.cpus_per_worker)))


def _nodes() -> list[dict[str, float]]:
    """What the living nodes have; those that are to be taken away do not count."""
    leaving = leaving_nodes()
    living = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in leaving]
    return [node["Resources"] for node in living]


def _fitting_on(node: dict[str, float], config: ExperimentConfig) -> int:
    train = config.train
    fitting = int(node.get("CPU", 0.0) / train.cpus_per_worker)
    if not train.use_gpu:
        return fitting
    on_each_gpu = int(1 / train.gpus_per_worker)
    return min(fitting, int(node.get("GPU", 0.0)) * on_each_gpu)
