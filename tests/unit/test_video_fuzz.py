"""Videos broken at random: frames that are right, or an error in time, and the child lives on."""

import re
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from damage import damage_shows
from videos import numbered_frame, read_number, write_video
from xpool_platform.data.decode_guard import DecodeGuard
from xpool_platform.data.video import FrameSettings, VideoError, VideoErrorKind

DEADLINE_S = 20.0
MARGIN_S = 5.0
NUM_FRAMES = 40
NUM_SEEDS = 40
"""Broken videos of each kind and mutation: 1800 in all."""
CODECS = {
    "mp4": "libx264",
    "mkv": "libx264",
    "ts": "libx264",
    "avi": "mpeg4",
    "webm": "libvpx-vp9",
}

BOX_NAMES = (
    b"moov|trak|mdia|minf|stbl|stsd|stts|ctts|stss|stsc|stsz|stco|mdat|avc1|avcC|elst|mdhd|tkhd"
    b"|RIFF|LIST|hdrl|avih|strl|strh|strf|movi|idx1|00dc"
    rb"|\x1aE\xdf\xa3|\x18S\x80g|\x16T\xaek|\x1fC\xb6u|\x1cS\xbbk"
)
"""Of the boxes of MP4, the chunks of AVI and the elements of Matroska."""


def flip_anywhere(content: bytearray, rng: np.random.Generator) -> None:
    for at in rng.integers(len(content), size=rng.integers(1, 31)):
        content[at] ^= 1 << rng.integers(8)


def flip_in_the_header(content: bytearray, rng: np.random.Generator) -> None:
    for at in rng.integers(min(1500, len(content)), size=rng.integers(1, 9)):
        content[at] = rng.integers(256)


def some_range(content: bytearray, rng: np.random.Generator) -> slice:
    start = int(rng.integers(len(content)))
    return slice(start, start + int(rng.integers(1, 2000)))


def truncate(content: bytearray, rng: np.random.Generator) -> None:
    del content[rng.integers(len(content)) :]


def set_to_zero(content: bytearray, rng: np.random.Generator) -> None:
    where = some_range(content, rng)
    content[where] = bytes(len(content[where]))


def delete(content: bytearray, rng: np.random.Generator) -> None:
    del content[some_range(content, rng)]


def insert(content: bytearray, rng: np.random.Generator) -> None:
    start = rng.integers(len(content))
    content[start:start] = rng.bytes(int(rng.integers(1, 2000)))


def repeat(content: bytearray, rng: np.random.Generator) -> None:
    where = some_range(content, rng)
    content[where.start : where.start] = content[where]


def swap(content: bytearray, rng: np.random.Generator) -> None:
    """Two parts in each other's place, cut at the names of boxes where there are any."""
    cuts = [max(0, match.start() - 4) for match in re.finditer(BOX_NAMES, content)]
    cuts = cuts if len(cuts) > 3 else rng.integers(len(content), size=6).tolist()
    first, second, third = sorted(rng.choice(cuts, size=3, replace=False).tolist())
    content[first:third] = content[second:third] + content[first:second]


def huge_size(content: bytearray, rng: np.random.Generator) -> None:
    names = [match.start() for match in re.finditer(BOX_NAMES, content)]
    at = int(rng.choice(names)) + int(rng.choice([-4, 4])) if names else int(rng.integers(188))
    size = [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x01\xff\xff\xff", bytes(4)]
    content[max(0, at) : max(0, at) + 4] = size[rng.integers(len(size))]


MUTATIONS: list[Callable[[bytearray, np.random.Generator], None]] = [
    *(flip_anywhere, flip_in_the_header, truncate, set_to_zero, delete, insert, repeat),
    *(swap, huge_size),
]
REQUESTS = [
    FrameSettings(decoder="pyav", frames_per_second=rate, min_frames=num, short_side=48)
    for rate, num in ((3.0, 12), (3.0, 200), (1.0, 1))
]
EVERY_FRAME = REQUESTS[1]


def moving_texture(number: int, width: int, height: int) -> np.ndarray:
    """A numbered frame, its lower half full of what is predicted from the frame before."""
    frame = numbered_frame(number, width, height)
    texture = np.random.default_rng(0).integers(256, size=(height // 8, width // 4, 3))
    moved = np.roll(texture.repeat(4, 0).repeat(4, 1), 3 * number, axis=1)
    frame[height // 2 :] = moved[: height - height // 2]
    return frame


@pytest.fixture(scope="module")
def guard() -> Iterator[DecodeGuard]:
    guard = DecodeGuard(deadline_s=DEADLINE_S, memory_bytes=4 * 2**30)
    yield guard
    guard.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, guard) -> Callable[[str], tuple[Path, np.ndarray]]:
    """The undamaged file of each kind, and its frames."""

    @cache
    def written(kind: str) -> tuple[Path, np.ndarray]:
        options = {"g": str(NUM_FRAMES), "bf": "2", "threads": "1", "cpu-used": "8"}
        path = tmp_path_factory.mktemp("whole") / f"whole.{kind}"
        write_video(path, NUM_FRAMES, codec=CODECS[kind], options=options, picture=moving_texture)
        frames = guard.decode(str(path), EVERY_FRAME).frames
        assert [read_number(frame) for frame in frames] == list(range(NUM_FRAMES))
        return path, frames

    return written


def fault(guard: DecodeGuard, broken: Path, settings: FrameSettings, frames: np.ndarray) -> str:
    """What is wrong with the guard's answer to a broken video, if anything is."""
    began = time.monotonic()
    try:
        video = guard.decode(str(broken), settings)
    except VideoError as error:
        kinds = set(get_args(VideoErrorKind)) - {"timeout", "crash"}
        return "" if error.kind in kinds and error.reason else str(error)
    finally:
        assert time.monotonic() - began < DEADLINE_S + MARGIN_S
    if (np.diff(video.times_s) < 0).any():
        return f"times {video.times_s}"
    numbers = [read_number(frame) for frame in video.frames]
    right = video.frames.shape[1:] == frames.shape[1:] and max(numbers) < NUM_FRAMES
    right = right and (np.diff(numbers) >= 0).all()
    right = right and np.abs(video.frames.astype(int) - frames[numbers]).max() <= 2
    return "" if right or not damage_shows(broken, video.times_s) else f"frames {numbers}"


@pytest.mark.parametrize("mutate", MUTATIONS)
@pytest.mark.parametrize("kind", CODECS)
def test_a_broken_video_gives_right_frames_or_an_error_in_time(
    tmp_path, guard, whole, kind, mutate
):
    path, frames = whole(kind)
    faults = {}
    for seed in range(NUM_SEEDS):
        content = bytearray(path.read_bytes())
        mutate(content, np.random.default_rng([seed, *kind.encode()]))
        broken = tmp_path / f"seed_{seed}.{kind}"
        broken.write_bytes(content)
        if found := fault(guard, broken, REQUESTS[seed % len(REQUESTS)], frames):
            faults[str(broken)] = found
        assert len(guard.decode(str(path), EVERY_FRAME).frames) == NUM_FRAMES
    assert not faults
