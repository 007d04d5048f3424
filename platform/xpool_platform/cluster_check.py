"""Whether a cluster can ever hold a job, seen before Ray would wait for ever without a word."""

from typing import Any

from xpool_platform.config import ExperimentConfig
from xpool_platform.errors import UserError
from xpool_platform.placement import (
    DECODE,
    KINDS,
    TRAIN,
    WORK,
    does,
    kind_of,
    living_nodes,
    num_cpus,
    num_training_cpus,
)

Nodes = list[dict[str, Any]]


def check_decoding(config: ExperimentConfig) -> None:
    """Raise UserError if the cluster can never decode a video."""
    nodes = living_nodes()
    _check_labels(nodes)
    _check_decoding(nodes, config)


def check_cluster(config: ExperimentConfig) -> None:
    """Raise UserError if the cluster can never hold the training and its data loading at once."""
    nodes, train = living_nodes(), config.train
    _check_labels(nodes)
    _check_decoding(nodes, config)
    decode = config.data.decode_cpus
    needed, cpus = train.num_workers * train.cpus_per_worker, num_training_cpus(nodes, decode)
    if needed > cpus:
        fitting = int(cpus / train.cpus_per_worker)
        way_out = (
            f"set --train.num-workers {fitting}"
            if fitting >= 1
            else "set --train.cpus-per-worker lower"
        )
        raise UserError(
            f"train.num_workers {train.num_workers} x train.cpus_per_worker "
            f"{train.cpus_per_worker:g} and data.decode_cpus {decode:g} for loading need "
            f"{needed + decode:g} CPUs, and {_having(nodes, 'CPU')}; {way_out} or add "
            f"nodes{_starting(nodes)}"
        )
    if train.use_gpu:
        _check_gpus(nodes, config)


def _check_decoding(nodes: Nodes, config: ExperimentConfig) -> None:
    decoding = [node for node in nodes if does(node, DECODE)]
    most = max((num_cpus([node]) for node in decoding), default=0.0)
    if config.data.decode_cpus > most:
        of_those = " that decodes" if len(decoding) < len(nodes) else ""
        way_out = f"set --data.decode-cpus {most:g} or less, or add nodes"
        if not most:
            way_out = f"add some: ray start --address=HEAD --labels={WORK}={DECODE}"
        raise UserError(
            f"data.decode_cpus {config.data.decode_cpus:g} are more than any node{of_those} has: "
            f"{_having(nodes, 'CPU')}; {way_out}{_starting(nodes)}"
        )


def _check_gpus(nodes: Nodes, config: ExperimentConfig) -> None:
    train = config.train
    needed = train.num_workers * train.gpus_per_worker
    gpus = sum(node["Resources"].get("GPU", 0.0) for node in nodes if does(node, TRAIN))
    if needed > gpus:
        fitting = int(gpus / train.gpus_per_worker)
        way_out = f"set --train.num-workers {fitting}" if fitting else "set --train.use-gpu False"
        raise UserError(
            f"train.num_workers {train.num_workers} x train.gpus_per_worker "
            f"{train.gpus_per_worker:g} need {needed:g} GPUs, and {_having(nodes, 'GPU')}; "
            f"{way_out} or add nodes{_starting(nodes)}"
        )


def _check_labels(nodes: Nodes) -> None:
    for node in nodes:
        if kind_of(node) not in ("", *KINDS):
            raise UserError(
                f"node {node['NodeManagerAddress']} has the label {WORK}={kind_of(node)}, which is "
                f"neither {TRAIN} nor {DECODE}; start it again with one of these, or without"
            )


def _starting(nodes: Nodes) -> str:
    """What a cluster's user should know: a launcher returns when the head is there."""
    of_more = len(nodes) > 1 or not num_cpus(nodes)
    return " (those that are still starting do not count: `ray status`)" if of_more else ""


def _having(nodes: Nodes, resource: str) -> str:
    """What the cluster has of a resource, and where, if nodes differ in what they do."""

    def amount(some: Nodes) -> str:
        return f"{sum(node['Resources'].get(resource, 0.0) for node in some):g}"

    whole = f"the cluster has {amount(nodes)}"
    kinds = {kind_of(node) for node in nodes}
    if not kinds - {""}:
        return whole
    names = {TRAIN: "to train", DECODE: "to decode", "": "for both"}
    parts = [
        f"{amount([node for node in nodes if kind_of(node) == kind])} on nodes {name}"
        for kind, name in names.items()
        if kind in kinds
    ]
    return f"{whole} ({', '.join(parts)}, by their label {WORK})"
