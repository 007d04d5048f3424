"""Whether the nodes reach each other, seen before anything waits for it."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from xpool_platform.errors import UserError

WITHIN_S = 30.0
"""Time for a process on every node to start and to answer."""

CONNECT_S = 5.0


def check_network() -> None:
    """Raise UserError, naming both sides, if a node does not reach another one.

    A cluster of one node is not asked.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) < 2:
        return
    addresses = [node["NodeManagerAddress"] for node in nodes]
    doors = [_door_on(node) for node in nodes]
    try:
        ports = _answers(addresses, [door.port.remote() for door in doors])
        around = [
            (address, port)
            for address, port in zip(addresses, ports, strict=True)
            if not address.startswith("127.")
        ]
        asked = [door.complaint.remote(around) for door in doors]
        for address, complaint in zip(addresses, _answers(addresses, asked), strict=True):
            if complaint:
                raise UserError(f"node {address} does not reach {complaint}")
    finally:
        for door in doors:
            ray.kill(door)


def _door_on(node: dict[str, str]) -> Any:
    there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    door = ray.remote(_Door).options(num_cpus=0, scheduling_strategy=there)
    return door.remote(node["NodeManagerAddress"])


def _answers(addresses: list[str], asked: list[ray.ObjectRef]) -> list[Any]:
    deadline, answers = time.monotonic() + WITHIN_S, []
    for address, answer in zip(addresses, asked, strict=True):
        try:
            answers.append(ray.get(answer, timeout=max(0.1, deadline - time.monotonic())))
        except ray.exceptions.RayError as error:
            why = " ".join(str(error).split())[:200]
            raise UserError(
                f"node {address} starts no process, or none that answers within {WITHIN_S:g} s "
                f"({why}); look at its raylet's log, or take it out of the cluster"
            ) from error
    return answers


class _Door:
    """A process on a node that others may connect to, and that tries to reach them."""

    def __init__(self, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, 0), family=family, backlog=1024)

    def port(self) -> int:
        return self._listener.getsockname()[1]

    def complaint(self, around: list[tuple[str, int]]) -> str:
        """What this node does not reach, and the way out; empty: it reaches everything."""
        with ThreadPoolExecutor(64) as pool:
            for (address, _), why in zip(around, pool.map(_unreached, around), strict=True):
                if why:
                    return (
                        f"node {address} ({why}): training workers speak to each other, and frames "
                        "travel, between all nodes; open the network between these two, or take "
                        "one of them out of the cluster"
                    )
        return ""


def _unreached(place: tuple[str, int]) -> str:
    try:
        socket.create_connection(place, timeout=CONNECT_S).close()
    except OSError as error:
        return str(error)
    return ""
