"""What a process that died held in the cluster comes back, and nothing else does."""

import time

import pytest
import ray
from ray.util import placement_group, placement_group_table
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from xpool_platform.runtime import ray_session
from xpool_platform.tune import lost_places
from xpool_platform.tune.lost_places import LostPlaces

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@ray.remote(num_cpus=0.1)
class Worker:
    def ready(self) -> None:
        """Answer."""


@ray.remote(num_cpus=0)
class Training:
    """Holds a place in the cluster, as a trial's training does, with a worker in it."""

    def hold(self) -> str:
        group = placement_group([{"CPU": 0.1}])
        ray.get(group.ready())
        place = PlacementGroupSchedulingStrategy(group)
        self.worker = Worker.options(scheduling_strategy=place).remote()
        ray.get(self.worker.ready.remote())
        return group.id.hex()


def state_of(name: str) -> str:
    return placement_group_table()[name]["state"]


def test_the_places_of_a_trial_that_died_come_back(monkeypatch):
    monkeypatch.setattr(lost_places, "AFTER_S", 3.0)
    with ray_session():
        alive, dying = Training.remote(), Training.remote()
        in_use, lost = ray.get([alive.hold.remote(), dying.hold.remote()])
        waiting = placement_group([{"node:__internal_head__": 0.001}])  # as Ray Tune's for a trial
        ray.get(waiting.ready())
        looking = LostPlaces()
        ray.kill(dying)
        for _ in range(8):
            looking.look()
            time.sleep(1)
        assert state_of(lost) == "CREATED"  # nobody has said that a trial died
        looking.expect()
        until = time.monotonic() + 30
        while state_of(lost) != "REMOVED" and time.monotonic() < until:
            looking.look()
            time.sleep(0.5)
        assert state_of(lost) == "REMOVED"
        time.sleep(4)
        looking.look()
        assert state_of(in_use) == state_of(waiting.id.hex()) == "CREATED"
