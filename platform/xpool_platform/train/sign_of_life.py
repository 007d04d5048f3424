"""A worker's signs of life, and the driver's wishes: both by a thread beside the training."""

import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.actor import ActorHandle

from xpool_platform.progress import Pulse

INTERVAL_S = 0.5


class SignOfLife:
    """Tells the board every half second what the worker is at, and asks it whether to stop.

    Attributes: `stop_wanted`, why the worker is to stop at its next step; empty: it is not.
    """

    def __init__(self, board: ActorHandle, rank: int) -> None:
        self.stop_wanted = ""
        self._board, self._rank = board, rank
        self._ticks = 0
        self._doing = "starting"
        self._worker = ray.get_runtime_context().current_actor
        threading.Thread(target=self._beat, daemon=True).start()

    def tick(self) -> None:
        """A piece of work is done."""
        self._ticks += 1

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Say what the worker is at, for the time of the block."""
        before, self._doing = self._doing, what
        try:
            yield
        finally:
            self._doing = before

    def _beat(self) -> None:
        node_id = ray.get_runtime_context().get_node_id()
        where = {"node_id": node_id, "host": platform.node(), "pid": os.getpid()}
        pause = threading.Event()
        while True:
            pulse = Pulse(rank=self._rank, ticks=self._ticks, doing=self._doing, **where)
            try:
                self._board.beat.remote(pulse, self._worker)
                self.stop_wanted = ray.get(self._board.stop_wanted.remote())
            except ray.exceptions.RayError:  # the driver is gone, and this worker will be soon
                return
            pause.wait(INTERVAL_S)
