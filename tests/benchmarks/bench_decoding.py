"""One clip, one core: this decoder and its guard against decord, OpenCV and the floor."""

import os
import statistics
from collections.abc import Callable
from pathlib import Path

import av
import decord
import numpy as np
import pytest
import simplejpeg
from h264_clips import NUM_FRAMES, make_clips, uniform_by_seeking
from machine import machine_name, seconds_of

from xpool_platform.data.decode_child import decode
from xpool_platform.data.decode_guard import DecodeGuard
from xpool_platform.data.video import FrameSettings

NUM_RUNS = int(os.environ.get("BENCH_RUNS", "25"))
IN_A_ROW = 8
SETTINGS = FrameSettings(
    decoder="pyav", frames_per_second=0.01, min_frames=NUM_FRAMES, short_side=224
)
STORED = FrameSettings(decoder="pyav", frames_per_second=3.0, min_frames=16, short_side=224)


def decode_every_frame(path: str) -> None:
    """The floor: one FFmpeg thread, nothing done with the frames."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for _ in container.decode(stream):
            pass


def with_decord(path: str) -> None:
    """The frames as they come, at the size that they have."""
    reader = decord.VideoReader(path, num_threads=1)
    step = len(reader) / NUM_FRAMES
    reader.get_batch([int((i + 0.5) * step) for i in range(NUM_FRAMES)]).asnumpy()


def as_jpeg(picture: np.ndarray) -> bytes:
    """As the child keeps it for the store."""
    return simplejpeg.encode_jpeg(picture, quality=90, colorsubsampling="420")


CLIPS = pytest.mark.parametrize(
    ("size", "seconds"),
    [((320, 240), 10), ((320, 240), 30), ((1280, 720), 20)],
    ids=["10 s of 240p", "30 s of 240p", "20 s of 720p"],
)


@CLIPS
def test_decoders(tmp_path: Path, size, seconds, capsys) -> None:
    (path,) = map(str, make_clips(tmp_path, 1, size=size, seconds=(seconds, seconds)))
    guard = DecodeGuard(deadline_s=120, memory_bytes=4 * 2**30)
    ways: dict[str, Callable[[], object]] = {
        "floor: every frame, one thread": lambda: decode_every_frame(path),
        "decord, 12 frames": lambda: with_decord(path),
        "OpenCV, 12 seeks": lambda: uniform_by_seeking(path),
        "pyav, 12 frames": lambda: decode(path, SETTINGS, None, None, lambda picture: picture),
        "pyav, 12 frames as JPEG": lambda: decode(path, SETTINGS, None, None, as_jpeg),
        "pyav, 12 frames as JPEG, guarded": lambda: guard.encode(path, SETTINGS),
        "pyav, 3 a second as JPEG, guarded": lambda: guard.encode(path, STORED),
    }
    for way in ways.values():
        way()
    seconds_by_way: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(NUM_RUNS):
        for name, way in ways.items():
            seconds_by_way[name].append(seconds_of(way))
    guard.close()
    floor = statistics.median(seconds_by_way["floor: every frame, one thread"])
    with capsys.disabled():
        print(f"\n{machine_name()}; {seconds} s of {size[0]} x {size[1]}, medians of {NUM_RUNS}")
        for name, taken in seconds_by_way.items():
            median = statistics.median(taken)
            print(f"  {name:34s} {median / floor:5.2f} of the floor, {1000 * median:6.1f} ms")


@CLIPS
def test_guard(tmp_path: Path, size, seconds, capsys) -> None:
    """What the guard's child costs a worker that decodes one clip after another."""
    (path,) = map(str, make_clips(tmp_path, 1, size=size, seconds=(seconds, seconds)))
    guard = DecodeGuard(deadline_s=120, memory_bytes=4 * 2**30)

    def alone() -> None:
        for _ in range(IN_A_ROW):
            decode(path, SETTINGS, None, None, as_jpeg)

    def guarded() -> None:
        for _ in range(IN_A_ROW):
            guard.encode(path, SETTINGS)

    alone()
    guarded()
    ratios = sorted(seconds_of(guarded) / seconds_of(alone) for _ in range(NUM_RUNS))
    guard.close()
    with capsys.disabled():
        print(
            f"\n{machine_name()}; {seconds} s of {size[0]} x {size[1]}: guarded / alone "
            f"{statistics.median(ratios):.3f}, median of {NUM_RUNS} pairs of {IN_A_ROW} decodes "
            f"({ratios[NUM_RUNS // 4]:.3f} to {ratios[-1 - NUM_RUNS // 4]:.3f} in the middle half)"
        )
