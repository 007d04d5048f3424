"""Real video files whose frames tell their own number, for tests of decoding."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

NUM_BITS = 10


def numbered_frame(number: int, width: int = 160, height: int = 96) -> np.ndarray:
    """A frame that shows its number as a row of black and white bars."""
    frame = np.full((height, width, 3), 110, np.uint8)
    bar = width // NUM_BITS
    for bit in range(NUM_BITS):
        frame[: height // 2, bit * bar : (bit + 1) * bar] = 235 if number >> bit & 1 else 20
    return frame


def read_number(frame: np.ndarray) -> int:
    """The number that a decoded frame shows, whatever its size."""
    height, width, _ = frame.shape
    bar = width / NUM_BITS
    centres = [int((bit + 0.5) * bar) for bit in range(NUM_BITS)]
    values = frame[height // 8 : height * 3 // 8, centres].mean(axis=(0, 2))
    return sum(1 << bit for bit in range(NUM_BITS) if values[bit] > 127)


def write_video(
    path: Path,
    num_frames: int,
    *,
    rate: int = 21,
    codec: str = "libx264",
    ticks: Sequence[int] | None = None,
    size: tuple[int, int] = (160, 96),
    options: dict[str, str] | None = None,
    picture: Callable[[int, int, int], np.ndarray] = numbered_frame,
) -> Path:
    """Numbered frames; `ticks` are their times in units of 1 / rate, by default 0, 1, 2, ..."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, rate)
        stream.options = {"crf": "20", "g": "12", **(options or {})}
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            frame.pts = ticks[number] if ticks is not None else number
            frame.time_base = Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
