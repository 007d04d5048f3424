"""What is logged of steps: kept where it was computed, and read for several steps at once."""

import math
import time
from collections.abc import Mapping

from torch import Tensor

Row = Mapping[str, Tensor | float]
"""The metrics of a step by name; what lies on a device stays there until it is read."""


class StepLog:
    """The steps since the last reading, and how fast they were. Attributes: `rows`."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.restart()

    def restart(self) -> None:
        """Begin anew: what was done since the last reading was no step."""
        self.rows = []
        self._num_pairs, self._waited_s, self._since = 0, 0.0, time.perf_counter()

    def add(self, row: Row, num_pairs: int, waited_s: float) -> None:
        """A step, the pairs of its global batch and the seconds spent waiting for them."""
        self.rows.append(row)
        self._num_pairs += num_pairs
        self._waited_s += waited_s

    def read(self, step: int) -> dict[int, dict[str, float]]:
        """The metrics of the steps that end with `step`, and with it their speed.

        What is not finite is left out: MLflow would keep it as a number.
        """
        elapsed_s, count = time.perf_counter() - self._since, len(self.rows)
        metrics = {}
        for at, row in zip(range(step - count + 1, step + 1), self.rows, strict=True):
            read = {name: float(value) for name, value in row.items()}
            metrics[at] = {name: value for name, value in read.items() if math.isfinite(value)}
        metrics[step] |= {
            "train/pairs_per_s": self._num_pairs / elapsed_s,
            "train/step_s": elapsed_s / count,
            "train/data_wait_s": self._waited_s / count,
        }
        return metrics
