"""What the driver looks after while workers train: workers that hang, nodes that come and go."""

import time

import ray

from xpool_platform.console import Console
from xpool_platform.progress import HeardPulse
from xpool_platform.train.capacity import fitting_workers, leaving_nodes
from xpool_platform.train.job import TrainingJob

GROW_AFTER_S = 5.0
"""How long the cluster must have had room for more workers before training moves to them."""

CROWDED_S = 5.0
"""How long nodes may be gone that the workers and their loading need."""

STOP_WITHIN_S = 20.0
"""Time that the workers get for a last checkpoint."""

SILENT_S = 5.0
"""A worker that gave no sign of life for so long is frozen, or gone."""


class Watch:
    """Ends the workers of an attempt, or asks them to stop with a checkpoint, when they have to.

    Attributes: `ended`, why it ended them; empty: it did not.
    """

    def __init__(self, job: TrainingJob, num_workers: int, console: Console) -> None:
        self.ended = ""
        self._job, self._num_workers, self._console = job, num_workers, console
        self._asked_s: float | None = None
        """When the workers were asked to stop."""
        self._room_since: float | None = None
        self._crowded_since: float | None = None

    def look(self) -> None:
        """Look at everything once."""
        now, pulses = ray.get(self._job.board.pulses.remote())
        if self.ended or not pulses:
            return
        room = fitting_workers(self._job.config)
        self._look_for_hanging(now, pulses)
        self._look_for_leaving(room, pulses)
        self._look_for_lack(room, pulses)
        self._look_for_room(room)

    def _look_for_hanging(self, now: float, pulses: list[HeardPulse]) -> None:
        """End the workers if none of them has got on for train.step_timeout_s, and say which."""
        limit = self._job.config.train.step_timeout_s
        if now - max(p.moved_s for p in pulses) < limit:
            return
        silent = [heard for heard in pulses if now - heard.heard_s > SILENT_S]
        busy = [heard for heard in pulses if "waiting for the other" not in heard.pulse.doing]
        named = "; ".join(
            f"rank {h.pulse.rank} on {h.pulse.host}, process {h.pulse.pid}, "
            + ("frozen" if h in silent else h.pulse.doing)
            for h in silent or busy or pulses
        )
        self._end(f"no step for {limit:g} s (train.step_timeout_s): {named}", pulses)

    def _look_for_leaving(self, room: int, pulses: list[HeardPulse]) -> None:
        """Ask the workers to stop before a node is taken away that they need."""
        leaving = leaving_nodes()
        needed = room < self._num_workers or any(p.pulse.node_id in leaving for p in pulses)
        if leaving and needed:
            named = ", ".join(leaving.values())
            self._ask_to_stop(f"nodes are to be taken away ({named}): training moves")

    def _look_for_lack(self, room: int, pulses: list[HeardPulse]) -> None:
        """End the workers if the nodes that are left do not hold them and their loading.

        They would hold every CPU and wait for ever for batches that nobody loads.
        """
        now = time.monotonic()
        stopping = self._asked_s is not None and now - self._asked_s < STOP_WITHIN_S
        if room >= self._num_workers or stopping:
            self._crowded_since = None
            return
        self._crowded_since = self._crowded_since or now
        if now - self._crowded_since > CROWDED_S:
            self._end(
                f"nodes were lost, and those that are left have room for {room} workers beside "
                "their loading",
                pulses,
            )

    def _look_for_room(self, room: int) -> None:
        """Ask the workers to stop once there has been room for more of them for a while."""
        now = time.monotonic()
        if room <= self._num_workers:
            self._room_since = None
            return
        self._room_since = self._room_since or now
        if now - self._room_since > GROW_AFTER_S:
            self._ask_to_stop("there is room for more workers again: training moves to them")

    def _ask_to_stop(self, why: str) -> None:
        if self._asked_s is None:
            self._asked_s = time.monotonic()
            self._console.line(why)
            ray.get(self._job.board.stop.remote(why))

    def _end(self, why: str, pulses: list[HeardPulse]) -> None:
        self.ended = why
        for heard in pulses:
            ray.kill(heard.worker)
