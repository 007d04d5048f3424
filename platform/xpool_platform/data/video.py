"""What decoding is asked for and what it gives, whichever decoder does it."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Generic, Literal, TypeVar

import numpy as np
from jaxtyping import Float, UInt8

from xpool_platform.data_config import DataConfig

FRAMES_VERSION = 2
"""Raised when the same settings begin to give other frames."""

MAX_KEPT_FRAMES = 20_000
"""Frames kept of one video at most: at three a second nearly two hours."""

Kept = TypeVar("Kept")

VideoErrorKind = Literal[
    "not-a-video", "damaged", "truncated", "too-large", "unsupported", "timeout", "crash"
]


class VideoError(Exception):
    """A video that gives no frames: the class of the failure and the reason."""

    def __init__(self, kind: VideoErrorKind, reason: str) -> None:
        super().__init__(f"{kind}: {reason}")
        self.kind: VideoErrorKind = kind
        self.reason = reason


def kept_at_least(num_frames: int) -> int:
    """Frames kept of a short video for runs that sample num_frames: 16, 32, 64 and so on.

    Runs that sample a few more or fewer share their frames, whichever came first.
    """
    return max(16, 1 << (num_frames - 1).bit_length())


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameSettings:
    """All that decides which frames a video gives and how they look."""

    decoder: Literal["pyav", "decord"]
    frames_per_second: float
    min_frames: int
    short_side: int
    jpeg_quality: int = 90

    @classmethod
    def of(cls, config: DataConfig) -> "FrameSettings":
        return cls(
            decoder=config.decoder,
            frames_per_second=config.frames_per_second,
            min_frames=kept_at_least(config.num_frames),
            short_side=config.short_side,
            jpeg_quality=config.jpeg_quality,
        )

    def fingerprint(self) -> str:
        """A name for frames made with these settings."""
        text = json.dumps({"version": FRAMES_VERSION, **asdict(self)}, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledVideo(Generic[Kept]):
    """What was kept of the chosen frames, in the order of time."""

    frames: list[Kept]
    times_s: Float[np.ndarray, " num_frames"]
    """When each frame is first shown, in seconds of the file's own clock, from its first frame."""

    duration_s: float
    """Length of the segment, or of the whole video."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodedVideo:
    """Frames in the order of time."""

    frames: UInt8[np.ndarray, "num_frames height width 3"]
    """Upright RGB."""

    times_s: Float[np.ndarray, " num_frames"]
    """As those of SampledVideo."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedVideo:
    """Frames in the order of time, as JPEG files."""

    jpegs: list[bytes]
    """Upright RGB."""

    times_s: Float[np.ndarray, " num_frames"]
    """As those of SampledVideo."""

    duration_s: float
    """As that of SampledVideo."""


KeepPicture = Callable[[UInt8[np.ndarray, "height width 3"]], Kept]
"""What a decoder does at once with each picture, so that not all of them are held as pixels."""


def segment_bounds(
    times_s: Float[np.ndarray, " num_shown"], start_s: float | None, end_s: float | None
) -> tuple[float, float]:
    """Start and end of a segment within a video whose frames are shown at times_s.

    The last frame is taken to last as long as the median one. Raises VideoError if the segment
    begins after the end.
    """
    last_duration = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0
    video_end = float(times_s[-1]) + last_duration
    start = start_s or 0.0
    if start > video_end:
        raise VideoError("truncated", f"start_s {start:g} is after its end at {video_end:.2f} s")
    return start, min(video_end, end_s) if end_s is not None else video_end


def choose_frames(
    times_s: Float[np.ndarray, " num_shown"],
    settings: FrameSettings,
    start_s: float | None,
    end_s: float | None,
) -> list[int]:
    """Which of the frames shown at times_s (rising, from 0) are kept.

    The segment from start_s to end_s is cut into equal parts, frames_per_second of them a second
    and at least min_frames; of each part, the frame that is on the screen at its centre. A segment
    of fewer frames than min_frames gives each of them once.

    Raises VideoError if the segment begins after the last frame, or gives too many frames.
    """
    start, end = segment_bounds(times_s, start_s, end_s)
    first = max(0, int(np.searchsorted(times_s, start, side="right")) - 1)
    stop = max(first + 1, int(np.searchsorted(times_s, end, side="left")))
    if stop - first <= settings.min_frames:
        return list(range(first, stop))
    num_parts = max(settings.min_frames, round((end - start) * settings.frames_per_second))
    if num_parts > MAX_KEPT_FRAMES:
        raise VideoError(
            "too-large",
            f"{end - start:.0f} s give {num_parts} frames, at most {MAX_KEPT_FRAMES} are kept; cut "
            "it into segments or lower data.frames_per_second",
        )
    centres = start + (np.arange(num_parts) + 0.5) * (end - start) / num_parts
    chosen = np.searchsorted(times_s, centres, side="right") - 1
    return np.clip(chosen, first, stop - 1).tolist()


def scaled_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Width and height with the short side as asked and the other in proportion."""
    scale = short_side / min(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))
