"""How many training workers a cluster has room for, beside the loading of their batches."""

import ray

from xpool_platform.config import ExperimentConfig


def fitting_workers(config: ExperimentConfig) -> int:
    """Workers that the living nodes hold, each on one of them; train.num_workers at most.

    What other jobs have taken is not subtracted.
    """
    return min(config.train.num_workers, _room(config))


def room_to_evaluate(config: ExperimentConfig, num_workers: int) -> bool:
    """Whether train.eval_workers fit beside so many training workers and their loading."""
    return _room(config) >= num_workers + config.train.eval_workers


def _room(config: ExperimentConfig) -> int:
    train = config.train
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(_fitting_on(node, train.cpus_per_worker, train.use_gpu) for node in nodes)
    cpus = sum(node.get("CPU", 0.0) for node in nodes) - config.data.decode_cpus
    return max(0, min(room, int(cpus / train.cpus_per_worker)))


def _fitting_on(node: dict[str, float], cpus_per_worker: float, use_gpu: bool) -> int:
    fitting = int(node.get("CPU", 0.0) / cpus_per_worker)
    return min(fitting, int(node.get("GPU", 0.0))) if use_gpu else fitting
