"""Which frames of a video a model sees: one from each of equal segments (X-Pool, section 4.1)."""

from collections.abc import Callable

import numpy as np


def uniform_frame_indices(num_available: int, num_frames: int) -> list[int]:
    """The centre frame of each of `num_frames` equal segments; a short video repeats its last.

    Raises ValueError if either count is below 1.
    """
    return _indices_by_segment(num_available, num_frames, lambda first, last: (first + last) // 2)


def random_frame_indices(
    num_available: int, num_frames: int, rng: np.random.Generator
) -> list[int]:
    """One frame drawn from each of `num_frames` equal segments; a short video repeats its last.

    Raises ValueError if either count is below 1.
    """
    return _indices_by_segment(
        num_available, num_frames, lambda first, last: int(rng.integers(first, last + 1))
    )


def _indices_by_segment(
    num_available: int, num_frames: int, pick: Callable[[int, int], int]
) -> list[int]:
    if num_available < 1 or num_frames < 1:
        raise ValueError(
            f"at least 1 frame is sampled from at least 1, not {num_frames} of {num_available}"
        )
    num_segments = min(num_available, num_frames)
    bounds = np.linspace(0, num_available, num_segments + 1).astype(int).tolist()
    indices = [pick(bounds[i], bounds[i + 1] - 1) for i in range(num_segments)]
    return indices + [indices[-1]] * (num_frames - num_segments)
