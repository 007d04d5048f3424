"""The default decoder: exact by time stamps, strict about damage, local files only.

The packets are read first, so that the times of all frames are known before any is decoded; then
the stream is decoded once through, up to the last frame that is wanted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from xpool_platform.data.video import (
    DecodedVideo,
    FrameSettings,
    VideoError,
    choose_frames,
    scaled_size,
)

FORMATS = "mov,mp4,matroska,webm,avi,mpeg,mpegts,flv,asf,ogg,mpegvideo"
"""Containers that are opened. Playlists are not among them: they would open other files."""

MAX_PIXELS = 8192 * 4320
MAX_FRAMES = 10 * 3600 * 60
"""Limits on what a file may claim, checked before anything is allocated."""

OPEN_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": FORMATS,
    "err_detect": "explode",
}


def decode_with_pyav(
    path: str, settings: FrameSettings, start_s: float | None, end_s: float | None
) -> DecodedVideo:
    """The frames of a segment, by `choose_frames`. Raises VideoError."""
    with _opened(path) as (container, stream):
        times = _packet_times(container, stream)
        time_base = stream.time_base or Fraction(1, 1)
    if times is None:
        shown = _decoded_times(path)
    else:
        shown = np.array([float(pts * time_base) for pts in times])
    if not len(shown):
        raise VideoError("damaged", "it has a video stream but no frames")
    shown = shown - shown[0]
    chosen = choose_frames(shown, settings, start_s, end_s)
    wanted = {index if times is None else times[index] for index in chosen}
    pictures: dict[int, np.ndarray] = {}
    with _opened(path) as (container, stream):
        for index, frame in enumerate(container.decode(stream)):
            key = index if times is None else frame.pts
            if key in wanted and key not in pictures:
                pictures[key] = _picture(frame, stream, settings.short_side)
                if len(pictures) == len(wanted):
                    break
    missing = len(wanted) - len(pictures)
    if missing:
        raise VideoError("damaged", f"{missing} of {len(wanted)} frames could not be decoded")
    keys = [index if times is None else times[index] for index in chosen]
    return DecodedVideo(frames=np.stack([pictures[key] for key in keys]), times_s=shown[chosen])


@contextmanager
def _opened(path: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    try:
        with av.open(path, options=OPEN_OPTIONS, metadata_errors="ignore") as container:
            stream = _video_stream(container)
            stream.codec_context.options = {"err_detect": "explode"}
            stream.codec_context.thread_count = 1
            yield container, stream
    except av.error.FFmpegError as error:
        damaged = isinstance(error, (av.error.InvalidDataError, av.error.EOFError))
        reason = error.strerror or str(error)
        raise VideoError("damaged" if damaged else "unsupported", reason) from error


def _video_stream(container: InputContainer) -> VideoStream:
    streams = [
        stream
        for stream in container.streams.video
        if not stream.disposition & av.stream.Disposition.attached_pic
    ]
    if not streams:
        raise VideoError("not-a-video", "it has no video stream")
    stream = streams[0]
    if stream.codec_context is None:
        raise VideoError("unsupported", "its codec is unknown")
    pixels = stream.codec_context.width * stream.codec_context.height
    if pixels > MAX_PIXELS:
        raise VideoError("too-large", f"a frame of {pixels} pixels, at most {MAX_PIXELS} are taken")
    return stream


def _packet_times(container: InputContainer, stream: VideoStream) -> list[int] | None:
    """Presentation times of the frames that are shown, rising; None where the file has none."""
    times: list[int] = []
    num_packets = 0
    usable = True
    for packet in container.demux(stream):
        if packet.size == 0:  # the flush at the end
            continue
        num_packets += 1
        if num_packets > MAX_FRAMES:
            raise VideoError("too-large", f"more than {MAX_FRAMES} frames")
        if packet.is_corrupt:
            raise VideoError("truncated", f"it ends in the middle of frame {num_packets}")
        if packet.pts is None:
            usable = False
        elif not packet.is_discard:
            times.append(packet.pts)
    if num_packets < stream.frames:
        raise VideoError("truncated", f"{num_packets} of {stream.frames} frames are there")
    if not usable or len(set(times)) != len(times):
        return None
    return sorted(times)


def _decoded_times(path: str) -> np.ndarray:
    """For files without usable time stamps: as many frames as decode, at the nominal rate."""
    with _opened(path) as (container, stream):
        num_frames = sum(1 for _ in container.decode(stream))
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    return np.arange(num_frames) / float(rate)


def _picture(frame: av.VideoFrame, stream: VideoStream, short_side: int) -> np.ndarray:
    if frame.is_corrupt:
        raise VideoError("damaged", f"the frame at {frame.time:.2f} s is corrupt")
    if frame.width * frame.height > MAX_PIXELS:
        raise VideoError("too-large", f"a frame of {frame.width} x {frame.height} pixels")
    aspect = stream.sample_aspect_ratio or Fraction(1)
    shown_width = max(1, round(frame.width * aspect))
    width, height = scaled_size(shown_width, frame.height, short_side)
    picture = frame.reformat(width, height, format="rgb24", interpolation="BICUBIC").to_ndarray()
    return np.ascontiguousarray(np.rot90(picture, k=round(frame.rotation / 90)))
