"""Whether every node reaches the places where a run writes, seen before anything waits for it."""

import uuid

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from xpool_platform.errors import UserError
from xpool_platform.locations import read_whole, remove_file, write_whole

WITHIN_S = 30


def check_storage(places: dict[str, str]) -> None:
    """Raise UserError if a node cannot read what this one writes, or cannot write; places: by the
    field that names them, folders or URIs that the workers use."""
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    for field, place in places.items():
        word = uuid.uuid4().hex
        probe = f"{place}/.probe-{word}"
        try:
            write_whole(probe, word.encode())
        except OSError as error:
            raise UserError(
                f"{field} {place} cannot be written to ({error}); set --{_option(field)} to a "
                "place that can"
            ) from error
        try:
            for node in nodes:
                _check_node(field, place, probe, word, node)
        finally:
            remove_file(probe)


def _check_node(field: str, place: str, probe: str, word: str, node: dict[str, str]) -> None:
    there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    asked = ray.remote(_seen).options(num_cpus=0, scheduling_strategy=there, max_retries=0)
    try:
        complaint = ray.get(asked.remote(probe, word), timeout=WITHIN_S)
    except ray.exceptions.GetTimeoutError:
        complaint = f"no answer within {WITHIN_S} s"
    except ray.exceptions.RayError as error:
        complaint = " ".join(str(error).split())[:200]
    if complaint:
        raise UserError(
            f"node {node['NodeManagerAddress']} does not reach {field} {place} ({complaint}); set "
            f"--{_option(field)} to a place that all nodes share"
        )


def _seen(probe: str, word: str) -> str:
    """What is wrong with a place, seen from here; empty: nothing."""
    try:
        if read_whole(probe).to_pybytes() != word.encode():
            return "it reads other files there"
        own = f"{probe}-{uuid.uuid4().hex}"
        write_whole(own, b"")
        remove_file(own)
    except OSError as error:
        return str(error)
    return ""


def _option(field: str) -> str:
    return field.replace("_", "-")
