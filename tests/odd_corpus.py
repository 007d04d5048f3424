"""The corpus of odd videos: its groups, what each file shows, and which frames are asked for.

What a file shows comes from the program ffmpeg, which decodes it once straight through.
"""

import os
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from xpool_platform.data.video import DecodedVideo, FrameSettings, VideoError

YTCLIPS = [
    *("ytclip_hang12_a.mp4", "ytclip_hang12_b.mp4", "ytclip_hang16.mp4", "ytclip_hang64.mp4"),
    *("ytclip_wrong_a.mp4", "ytclip_wrong_b.mp4"),
]
THREE_FRAMES = [
    "three_frames.mp4",
    os.fsdecode(b"nonutf8_\xff\xfe.mp4"),
    "unicode_видео_🎬.mp4",
    "sp ace'quote;$(x).mp4",
    "noext",
    "file:colon.mp4",
]
VALID = [
    *(f"ok_{tag}.mp4" for tag in ("h264", "h264_moovend", "longgop", "720p", "10s_240p")),
    *("ok_30s_240p.mp4", "ok_av.mp4", "one_frame.mp4", "eleven_frames.mp4", *THREE_FRAMES),
    *("vfr.mp4", "vfr_gap.mp4", "vfr_dup_drop.mkv", "fps_ntsc.mp4", "fps1.mp4"),
    *("bframes_opengop.mp4", "editlist_cut.mp4", "late_start.mkv", *YTCLIPS),
    *("ts_stream.ts", "raw_h264.h264", "frag.mp4", "rot90.mp4", "rot180.mp4"),
    *("odd_444_127x93.mp4", "odd_vp9_127x93.webm", "odd_mpeg4_127x93.avi", "even_130x94.mp4"),
    *("sar2.mp4", "tiny_16x16.mp4", "portrait_240x426.mp4", "resize_midstream.ts"),
    *("av1.mp4", "vp9.webm", "hevc.mp4", "mpeg4.avi", "xvid_packed.avi", "mjpeg.avi", "mpeg2.mpg"),
    *("anim.gif", "h264_10bit.mp4", "hevc_10bit.mp4", "interlaced.mp4", "fullrange.mp4"),
    *("rgb_lossless.mkv", "two_video_streams.mp4", "audio_coverart.mp4"),
]
MAY_BE_ERROR = {
    "raw_h264.h264": "a bare stream without a container has no times",
    "audio_coverart.mp4": "its only picture is the cover of a song",
    "resize_midstream.ts": "two streams end to end: its counters break off as after lost packets",
}
"""Valid files that need not decode, and why; if they do, their frames must be right too."""

UNDAMAGED = {
    **{f"bitflip_{seed:02d}.mp4": "ok_h264.mp4" for seed in range(20)},
    **{f"hdrflip_{seed:02d}.mp4": "ok_h264.mp4" for seed in range(10)},
    **{f"trunc_faststart_{percent}.mp4": "ok_h264.mp4" for percent in (10, 50, 90)},
    "trunc_nomoov.mp4": "ok_h264_moovend.mp4",
    "zeroed_middle.mp4": "ok_h264.mp4",
    "ts_nokey_start.ts": "ts_stream.ts",
}
"""Damaged files, each with the whole file that it was made of."""

SOME_BYTES = ["text.mp4", "html404.mp4", "random.mp4"]
NOT_VIDEOS = [
    *("zero.mp4", "audio_only.mp4", "loop_a.mp4", "loop_b.mp4", "dangling.mp4", "directory.mp4")
]
TRAPS = [
    *(f"hls_{tag}.mp4" for tag in ("abs", "fileurl", "rel", "txt", "http", "concat_txt")),
    *("hls.m3u8", "ffconcat_rel.mp4", "ffconcat_abs.mp4", "dash.mp4", "sdp.mp4"),
]
BOMBS = ["bomb_8192.mp4", "bomb_200k_frames.mp4", "huge_dims_header.mp4"]

QUARTER_TURNS = {"rot90.mp4": 1, "rot180.mp4": 2}
"""How often the stored picture is turned counter-clockwise to stand upright: -display_rotation
takes a counter-clockwise angle."""

SHOWN_SIZES = {"sar2.mp4": (640, 240), "rot90.mp4": (240, 320)}
"""Width and height on a screen of square pixels, where they are not those of the stored frames."""

FRAME_RATES = {"fps_ntsc.mp4": 30000 / 1001, "fps1.mp4": 1.0, "anim.gif": 10.0}


def seconds_of(name: str, number: int) -> float:
    """When the generator shows a frame, from the frame 0, by its own formulas."""
    if name == "vfr.mp4":
        sections = [number, 30 + (number - 30) * 4, 150 + (number - 60) * 0.5]
        return sections[number // 30] / 30
    if name == "vfr_gap.mp4":
        return (number + (300 if number >= 45 else 0)) / 30
    if name == "vfr_dup_drop.mkv":
        return (number + 0.4 * np.sin(number)) / 30
    return number / FRAME_RATES.get(name, 30.0)


@dataclass(frozen=True)
class Shown:
    """All that a file shows, in the order of time."""

    times_s: list[float]
    numbers: list[int]
    thumbnails: list[np.ndarray]
    size: tuple[int, int]
    """Width and height of the stored frames."""


def from_frame(shown: Shown, first: int) -> Shown:
    return Shown(
        times_s=[at - shown.times_s[first] for at in shown.times_s[first:]],
        numbers=shown.numbers[first:],
        thumbnails=shown.thumbnails[first:],
        size=shown.size,
    )


def end_of(times_s: list[float]) -> float:
    return times_s[-1] + (float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0)


def read_number(frame: np.ndarray, size: tuple[int, int]) -> int:
    """The bar code of a frame that was stored at `size`, now at any other."""
    height, width, _ = frame.shape
    bar_width, bar_height = size[0] // 6 * width / size[0], size[1] // 6 * height / size[1]
    number = 0
    for bit in range(12):
        row, column = divmod(bit, 6)
        top, left = int((row + 0.25) * bar_height), int((column + 0.25) * bar_width)
        bottom, right = int((row + 0.75) * bar_height), int((column + 0.75) * bar_width)
        block = frame[top : max(bottom, top + 1), left : max(right, left + 1)]
        number |= int(block.mean() > 127) << bit
    return number


def number_in(name: str, frame: np.ndarray, size: tuple[int, int]) -> int:
    number = read_number(frame, size)
    # its lines are of two frames, 2 k and 2 k + 1, which differ in the lowest bit
    return number & ~1 if name == "interlaced.mp4" else number


def thumbnail(frame: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(np.ascontiguousarray(frame)).resize((8, 6), Image.Resampling.BOX)
    return np.asarray(picture).astype(np.float32)


@cache
def straight_through(path: Path) -> Shown:
    """Every frame of the first video stream, decoded once through by the program ffmpeg."""
    log_path = path.parent / "straight_through.log"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-hide_banner", "-noautorotate"]
    command += ["-i", path, "-map", "0:v:0", "-vf", "showinfo", "-fps_mode", "passthrough"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    with log_path.open("wb") as log:
        raw = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, check=True).stdout
    log_text = log_path.read_text(errors="replace")
    log_path.unlink()
    times_s = []
    for line in re.findall(r"\[Parsed_showinfo.*", log_text):
        if match := re.search(r"config in time_base: (\d+)/(\d+)", line):
            time_base = int(match[1]) / int(match[2])
        elif match := re.search(r" pts: *(\d+) ", line):
            times_s.append(int(match[1]) * time_base)
    width, height = map(int, re.findall(r" s:(\d+)x(\d+) ", log_text)[0])
    frames = np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)
    assert len(frames) == len(times_s) > 0
    return Shown(
        times_s=[at - times_s[0] for at in times_s],
        numbers=[number_in(path.name, frame, (width, height)) for frame in frames],
        thumbnails=[thumbnail(frame) for frame in frames],
        size=(width, height),
    )


@dataclass(frozen=True)
class Request:
    """What of a video is asked for; the segment as parts of its duration."""

    frames_per_second: float = 3.0
    min_frames: int = 12
    start: float | None = None
    end: float | None = None

    def settings(self) -> FrameSettings:
        return FrameSettings(
            decoder="pyav",
            frames_per_second=self.frames_per_second,
            min_frames=self.min_frames,
            short_side=120,
        )

    def segment_s(self, shown: Shown) -> tuple[float | None, float | None]:
        duration_s = end_of(shown.times_s)
        if duration_s == 0:  # a single frame has no parts
            return None, None
        return tuple(None if at is None else at * duration_s for at in (self.start, self.end))


REQUESTS = {
    "whole": Request(),
    "every": Request(min_frames=2000),
    "one": Request(frames_per_second=0.1, min_frames=1),
    "end": Request(min_frames=3, start=0.9013),
    **{
        f"tenth {tenth}": Request(min_frames=3, start=tenth / 10 + 0.0037, end=tenth / 10 + 0.1071)
        for tenth in range(10)
    },
}
WHOLE = REQUESTS["whole"].settings()
EVERY_FRAME = REQUESTS["every"].settings()


def on_the_screen(
    times_s: list[float],
    request: Request,
    start_s: float | None = None,
    end_s: float | None = None,
) -> list[set[int]]:
    """For each frame that is asked for, which may be given: two where a centre is at the change."""

    def shown_at(at: float) -> int:
        return max((index for index, time_s in enumerate(times_s) if time_s <= at), default=0)

    video_end = end_of(times_s)
    start, end = start_s or 0.0, min(video_end, end_s or video_end)
    first = shown_at(start)
    last = max([first, *(index for index, time_s in enumerate(times_s) if time_s < end)])
    if last - first + 1 <= request.min_frames:
        return [{index} for index in range(first, last + 1)]
    num_parts = max(request.min_frames, round((end - start) * request.frames_per_second))
    length = (end - start) / num_parts
    centres = [start + (part + 0.5) * length for part in range(num_parts)]
    return [{shown_at(centre - 1e-6), shown_at(centre + 1e-6)} for centre in centres]


def check_frames(
    name: str, video: DecodedVideo | VideoError, shown: Shown, wanted: list[set[int]]
) -> None:
    """The wanted frames of what a file shows: their numbers, times, shape and look."""
    assert not isinstance(video, VideoError), video
    upright = [np.rot90(frame, -QUARTER_TURNS.get(name, 0)) for frame in video.frames]
    numbers = [number_in(name, frame, shown.size) for frame in upright]
    right = [{shown.numbers[index] for index in indices} for indices in wanted]
    assert len(numbers) == len(right)
    wrong = [
        f"{position}: {number} in place of {sorted(allowed)}"
        for position, (number, allowed) in enumerate(zip(numbers, right, strict=True))
        if number not in allowed
    ]
    assert not wrong
    chosen = [
        next(index for index in indices if shown.numbers[index] == number)
        for indices, number in zip(wanted, numbers, strict=True)
    ]
    assert video.times_s.tolist() == pytest.approx([shown.times_s[i] for i in chosen], abs=1e-3)
    assert (np.diff(video.times_s) >= 0).all()
    width, height = SHOWN_SIZES.get(name, shown.size)
    assert video.frames.shape[1:3] == pytest.approx(
        [120 * height / min(width, height), 120 * width / min(width, height)], abs=1
    )
    for index, frame in zip(chosen, upright, strict=True):
        # the next frame differs by 8, with tiny_16x16.mp4 by 26 and its enlarged edges by 10
        difference = np.abs(thumbnail(frame) - shown.thumbnails[index]).mean()
        assert difference < (15 if shown.size == (16, 16) else 5)
