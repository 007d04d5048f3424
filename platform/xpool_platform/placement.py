"""Which nodes do what, by a label that a cluster may give them.

A node with the label `xpool/work=decode` makes, decodes and loads videos, one with
`xpool/work=train` trains and evaluates, and one without the label does both. A single machine
needs no label.
"""

from typing import Any

import ray

WORK = "xpool/work"
"""The label. Its values are KINDS."""

TRAIN, DECODE = KINDS = ("train", "decode")

WHERE_TRAINING = {WORK: f"!{DECODE}"}
WHERE_DECODING = {WORK: f"!{TRAIN}"}
"""Label selectors of Ray's tasks and actors; `!` is also true of nodes without the label."""


def living_nodes() -> list[dict[str, Any]]:
    """The nodes as Ray tells of them."""
    return [node for node in ray.nodes() if node["Alive"]]


def kind_of(node: dict[str, Any]) -> str:
    """What a node is for; empty: for everything."""
    kind: str = node["Labels"].get(WORK, "")
    return kind


def does(node: dict[str, Any], work: str) -> bool:
    """Whether a node does a kind of work."""
    return kind_of(node) in ("", work)


def num_cpus(nodes: list[dict[str, Any]]) -> float:
    """The CPUs of some nodes."""
    return sum(node["Resources"].get("CPU", 0.0) for node in nodes)


def num_training_cpus(nodes: list[dict[str, Any]], decode_cpus: float, num_tasks: int = 1) -> float:
    """CPUs of some nodes that training may take, beside tasks of decoding of so many CPUs each."""
    for_training = num_cpus([node for node in nodes if does(node, TRAIN)])
    # a task is on one node: what is left over on each decodes nothing
    only_decoding = decode_cpus * sum(
        int(num_cpus([node]) / decode_cpus) for node in nodes if kind_of(node) == DECODE
    )
    return for_training - max(0.0, num_tasks * decode_cpus - only_decoding)
