"""Whether every node reaches the places where a run reads and writes, before anything waits."""

import os
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from xpool_platform.config import ExperimentConfig
from xpool_platform.errors import UserError
from xpool_platform.locations import read_whole, remove_file, write_whole
from xpool_platform.placement import DECODE, TRAIN, does, living_nodes, num_cpus

WITHIN_S = 30


def check_storage(places: Mapping[str, str]) -> None:
    """Raise UserError if a node cannot read what this one writes, or cannot write; places: by the
    field that names them, folders or URIs that the workers use."""
    for field, place in places.items():
        if complaint := unshared(field, place):
            raise UserError(f"{complaint}; set --{_option(field)} to a place that all nodes share")


def unshared(field: str, place: str) -> str:
    """Which node does not share a place with this one, and why; empty: all do.

    Raises UserError if this one cannot write there.
    """
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
        return _complaint(f"does not reach {field} {place}", _seen, probe, word)
    finally:
        with suppress(OSError):
            remove_file(probe)


def check_seen(config: ExperimentConfig) -> None:
    """Raise UserError if a node that decodes does not see the videos, or one that trains the
    weights that a model begins with."""
    places = (
        ("data.root", config.data.root, DECODE),
        ("init_from", config.init_from, TRAIN),
        ("model.clip_pretrained", config.model.clip_pretrained, TRAIN),
    )
    for field, place, work in places:
        if not os.path.isabs(place):  # a URI, or a tag of open_clip's
            continue
        if complaint := _complaint("does not see it", _is_there, place, work=work):
            raise UserError(
                f"{field} {place}: {complaint}; put it where all nodes see it under the same path, "
                f"or into an object store: --{_option(field)} s3://..."
            )


def _complaint(what: str, look: Callable[..., str], *arguments: str, work: str = "") -> str:
    """What the first node that does this work says, if one complains.

    A cluster of one node is this one's own.
    """
    nodes = living_nodes()
    if len(nodes) < 2:
        return ""
    for node in nodes:
        if (
            num_cpus([node])
            and (not work or does(node, work))
            and (why := _asked(node, look, *arguments))
        ):
            return f"node {node['NodeManagerAddress']} {what} ({why})"
    return ""


def _asked(node: Mapping[str, Any], look: Callable[..., str], *arguments: str) -> str:
    there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    asked = ray.remote(look).options(num_cpus=0, scheduling_strategy=there, max_retries=0)
    try:
        complaint: str = ray.get(asked.remote(*arguments), timeout=WITHIN_S)
    except ray.exceptions.GetTimeoutError:
        return f"no answer within {WITHIN_S} s"
    except ray.exceptions.RayError as error:
        return " ".join(str(error).split())[:200]
    return complaint


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


def _is_there(path: str) -> str:
    return "" if os.path.exists(path) else "there is nothing of this name"


def _option(field: str) -> str:
    return field.replace("_", "-")
