"""What training workers tell the driver while it waits for them."""

from dataclasses import dataclass

import ray
from ray.actor import ActorHandle


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingProgress:
    """How far a training is."""

    step: int = 0
    """Steps done."""

    loss: float | None = None
    pairs_per_s: float | None = None
    note: str = ""
    """What is going on besides steps, such as an evaluation."""


class _Board:
    def __init__(self) -> None:
        self._progress: TrainingProgress | None = None

    def put(self, progress: TrainingProgress) -> None:
        self._progress = progress

    def get(self) -> TrainingProgress | None:
        return self._progress


def start_board() -> ActorHandle:
    """An actor with `put` and `get` of the newest TrainingProgress, on the driver's node."""
    node = ray.get_runtime_context().get_node_id()
    return ray.remote(_Board).options(num_cpus=0, label_selector={"ray.io/node-id": node}).remote()
