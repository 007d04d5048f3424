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
    frame that is sampled again, since its video has few, counts once with all its shares.
    """
    frames: list[tuple[float, float]] = []
    for time, weight in zip(times_s, weights, strict=True):
        if frames and frames[-1][0] == time:
            frames[-1] = time, frames[-1][1] + weight
        else:
            frames.append((time, weight))
    bounds = frame_bounds([time for time, _ in frames], start_s, end_s)
    level = min(1 / len(frames), max(weight for _, weight in frames) * 0.999)
    found: list[Moment] = []
    last = -2
    for i, (_, weight) in enumerate(frames):
        if weight <= level:
            continue
        if last == i - 1:
            run = found.pop()
            found.append(Moment(run.start_s, bounds[i + 1], run.weight + weight))
        else:
            found.append(Moment(bounds[i], bounds[i + 1], weight))
        last = i
    return sorted(found, key=lambda moment: -moment.weight)[:MAX_MOMENTS]
