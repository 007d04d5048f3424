"""The best of very many scores."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True, slots=True)
class Hit:
    """A video that was found."""

    segment: int
    """Its number in the index."""

    row: int
    score: float


class Best:
    """The k best of each text so far."""

    def __init__(self, num_texts: int, k: int) -> None:
        self.k = k
        self._found: list[list[Hit]] = [[] for _ in range(num_texts)]

    def add(
        self,
        segment: int,
        scores: Float[np.ndarray, "num_texts num_rows"],
        rows: np.ndarray,
        *,
        text: int = 0,
    ) -> None:
        """Scores of these rows, of the texts from `text` on; minus infinity: not there."""
        count = min(self.k, len(rows))
        if not count:
            return
        for i, its in enumerate(scores):
            own = [
                Hit(segment, int(rows[column]), float(its[column]))
                for column in _largest(its, count)
                if its[column] > -np.inf
            ]
            merged = sorted(
                self._found[text + i] + own, key=lambda hit: (-hit.score, hit.segment, hit.row)
            )
            self._found[text + i] = merged[: self.k]

    def hits(self) -> list[list[Hit]]:
        """Those of each text, the best first."""
        return self._found


def _largest(scores: Float[np.ndarray, " num_rows"], count: int) -> Int[np.ndarray, " num_chosen"]:
    """Where the largest scores are, in any order; of equal ones the first."""
    # partition first: sorting all scores would take longer than the scan
    least = -np.partition(-scores, count - 1)[count - 1]
    above = np.flatnonzero(scores > least)
    return np.concatenate([above, np.flatnonzero(scores == least)[: count - len(above)]])
