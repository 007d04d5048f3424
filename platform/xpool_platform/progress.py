"""What training workers and the driver tell each other while the training goes on."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Pulse:
    """A sign of life of one worker."""

    rank: int
    node_id: str
    """Ray's id of its node."""

    host: str
    pid: int
    ticks: int
    """Pieces of work done; it stands still where the worker does."""

    doing: str
    """What the worker was at."""


@dataclass(kw_only=True, slots=True)
class HeardPulse:
    """The newest sign of life of a worker, by the board's own clock."""

    pulse: Pulse
    worker: ActorHandle
    heard_s: float
    """When it was heard."""

    moved_s: float
    """When its ticks last rose."""


class Follower(Protocol):
    """Who wants to know how a training goes on, in the thread that drives it."""

    def evaluated(self, step: int, num_steps: int, metrics: Mapping[str, float]) -> None:
        """An evaluation is done, after so many of all steps."""

    def look(self) -> None:
        """Called several times a second; may raise KeyboardInterrupt to end the training."""


class _Board:
    def __init__(self) -> None:
        self._progress: TrainingProgress | None = None
        self._evaluations: list[tuple[int, Mapping[str, float]]] = []
        self._stop = ""
        self._pulses: dict[int, HeardPulse] = {}

    def put(self, progress: TrainingProgress) -> None:
        self._progress = progress

    def get(self) -> TrainingProgress | None:
        return self._progress

    def begin(self) -> None:
        """Forget the workers of the attempt before."""
        self._progress = None
        self._stop = ""
        self._pulses.clear()

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        self._evaluations.append((step, metrics))

    def evaluations(self) -> list[tuple[int, Mapping[str, float]]]:
        """Those that nobody has asked for yet."""
        new, self._evaluations = self._evaluations, []
        return new

    def stop(self, why: str) -> None:
        self._stop = why

    def stop_wanted(self) -> str:
        return self._stop

    def beat(self, pulse: Pulse, worker: ActorHandle) -> None:
        now = time.monotonic()
        before = self._pulses.get(pulse.rank)
        same = before is not None and before.pulse.ticks == pulse.ticks
        moved_s = before.moved_s if same and before is not None else now
        self._pulses[pulse.rank] = HeardPulse(
            pulse=pulse, worker=worker, heard_s=now, moved_s=moved_s
        )

    def pulses(self) -> tuple[float, list[HeardPulse]]:
        return time.monotonic(), [self._pulses[rank] for rank in sorted(self._pulses)]


def start_board() -> ActorHandle[Any]:
    """An actor on the driver's node: `put` and `get` of the newest TrainingProgress, `evaluated`
    and `evaluations`, `stop` and `stop_wanted` (why workers are to stop at their next step), `beat`
    and `pulses`."""
    node = ray.get_runtime_context().get_node_id()
    return ray.remote(_Board).options(num_cpus=0, label_selector={"ray.io/node-id": node}).remote()
