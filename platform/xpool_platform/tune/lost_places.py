"""Gives back what a trial's process held in the cluster when it died without a word.

Ray keeps the placement group of its training, whose workers are dead, until the whole job ends:
Ray Train's own cleaner asks Ray's dashboard, which is not everywhere.
"""

import time
from typing import Any

import ray
from ray.util import placement_group_table, remove_placement_group
from ray.util.placement_group import PlacementGroup

AFTER_S = 10.0
"""A group that a training has just begun is idle for less."""

LOOK_FOR_S = 60.0
EVERY_S = 1.0


class LostPlaces:
    """Looks for such placement groups of this job for a while after a trial has died."""

    def __init__(self) -> None:
        self._until = self._next = 0.0
        self._idle_since: dict[str, float] = {}

    def expect(self) -> None:
        """A trial has died."""
        self._until = time.monotonic() + LOOK_FOR_S

    def look(self) -> None:
        """Remove the groups whose places nobody has used for AFTER_S."""
        now = time.monotonic()
        if now > self._until or now < self._next:
            return
        self._next = now + EVERY_S
        idle = {name for name in _groups_of_this_job() if _is_idle(name)}
        self._idle_since = {name: self._idle_since.get(name, now) for name in idle}
        for name, since in list(self._idle_since.items()):
            if now - since >= AFTER_S:
                remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(name)))
                del self._idle_since[name]


def _groups_of_this_job() -> list[str]:
    """Ids of placement groups that hold CPUs, as those of trainings do."""
    job = ray.get_runtime_context().get_job_id()
    table: dict[str, dict[str, Any]] = placement_group_table()
    return [
        name
        for name, group in table.items()
        if name.endswith(job)  # an id ends with that of its job
        and group["state"] == "CREATED"
        and any("CPU" in bundle for bundle in group["bundles"].values())
    ]


def _is_idle(name: str) -> bool:
    key = f"CPU_group_{name}"
    held, free = ray.cluster_resources().get(key, 0.0), ray.available_resources().get(key, 0.0)
    return held > 0 and free >= held
