"""From attention over sampled frames to moments of a video."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

MAX_MOMENTS = 3


@dataclass(frozen=True, slots=True)
class Moment:
    """A stretch of a video, in seconds of its file."""

    start_s: float
    end_s: float
    weight: float
    """The share of its frames in the attention."""


def frame_bounds(times_s: Sequence[float], start_s: float, end_s: float) -> list[float]:
    """Where the stretches for which the sampled frames stand begin, and where the last ends.

    They meet halfway between two frames. start_s and end_s are those of the whole segment.
    """
    middles = [(a + b) / 2 for a, b in pairwise(times_s)]
    return [min(start_s, times_s[0]), *middles, max(end_s, times_s[-1])]


def moments_of(
    times_s: Sequence[float], weights: Sequence[float], start_s: float, end_s: float
) -> list[Moment]:
    """The moments that a text attends to, the best first, at most MAX_MOMENTS.

    A moment is a run of frames each of which has more than the share that all would have alike; a
    frame that is sampled again, since its video has few, has the shares of all its samples.
    """
    frames: list[list[float]] = []
    for time, weight in zip(times_s, weights, strict=True):
        if not frames or frames[-1][0] != time:
            frames.append([time, 0.0, 0.0])
        frames[-1][1] += weight
        frames[-1][2] += 1 / len(times_s)
    bounds = frame_bounds([time for time, _, _ in frames], start_s, end_s)
    most = max(weight / alike for _, weight, alike in frames)
    level = min(1.0, 0.999 * most)  # where all are alike, all of it is the moment
    found: list[Moment] = []
    last = -2
    for i, (_, weight, alike) in enumerate(frames):
        if weight <= level * alike:
            continue
        if last == i - 1:
            run = found.pop()
            found.append(Moment(run.start_s, bounds[i + 1], run.weight + weight))
        else:
            found.append(Moment(bounds[i], bounds[i + 1], weight))
        last = i
    return sorted(found, key=lambda moment: -moment.weight)[:MAX_MOMENTS]
