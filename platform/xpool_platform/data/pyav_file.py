"""Opening a video file with PyAV and reading its packets: local, listed, bounded, undamaged."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from xpool_platform.data.packets import PacketTable
from xpool_platform.data.video import VideoError

FORMATS = "mov,mp4,matroska,webm,avi,mpeg,mpegts,flv,asf,ogg,mpegvideo,gif"
"""Containers that are opened. Playlists are not among them: they would open other files."""

MAX_PIXELS = 8192 * 4320
MAX_FRAMES = 10 * 3600 * 60
"""Limits on what a file may claim, checked before anything is allocated."""

OPEN_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": FORMATS,
    "err_detect": "explode",
}


TEXT_BYTES = 1024
NO_TEXT = frozenset({*range(9), *range(14, 32), 127})
"""Control characters: every container has some at its beginning, and no text has."""

MAX_MISSING_S = 1.0
"""By how much a stream may end before the time that its header promises."""

MAX_HELD_BYTES = 64 * 2**20
"""Packets up to this size are held between reading and decoding; more are read a second time."""


@contextmanager
def opened_video(path: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The file and its first video stream, strict about damage. Raises VideoError."""
    try:
        with av.open(f"file:{path}", options=OPEN_OPTIONS, metadata_errors="ignore") as container:
            stream = _video_stream(container)
            stream.codec_context.options = {"err_detect": "explode"}
            stream.codec_context.thread_count = 1
            yield container, stream
    except av.error.FFmpegError as error:
        if _is_text(path):
            raise VideoError("not-a-video", "it is a text, a web page or a playlist") from error
        damaged = isinstance(error, (av.error.InvalidDataError, av.error.EOFError))
        reason = error.strerror or str(error)
        raise VideoError("damaged" if damaged else "unsupported", reason) from error


def _is_text(path: str) -> bool:
    with open(path, "rb") as file:
        return not set(file.read(TEXT_BYTES)).intersection(NO_TEXT)


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


def read_packets(
    container: InputContainer, stream: VideoStream
) -> tuple[PacketTable | None, Iterable[Packet]]:
    """The stream's packets; the table is None where the file does not tell the frames' times.

    Raises VideoError if packets are missing or cut.
    """
    pts: list[int | None] = []
    is_key: list[bool] = []
    is_shown: list[bool] = []
    held: list[Packet] = []
    num_bytes = 0
    for packet in _packets(container, stream):
        if len(pts) == MAX_FRAMES:
            raise VideoError("too-large", f"more than {MAX_FRAMES} frames")
        if packet.is_corrupt:
            raise VideoError("truncated", f"it ends in the middle of frame {len(pts) + 1}")
        pts.append(packet.pts)
        is_key.append(packet.is_keyframe)
        is_shown.append(not packet.is_discard)
        num_bytes += packet.size
        if num_bytes <= MAX_HELD_BYTES:
            held.append(packet)
    if len(pts) < stream.frames:
        raise VideoError("truncated", f"{len(pts)} of {stream.frames} frames are there")
    promised_s = _promised_end_s(stream)
    times = [time for time in pts if time is not None]
    if promised_s is not None and times:
        end_s = float(max(times) * (stream.time_base or 0))
        if end_s + MAX_MISSING_S < promised_s:
            reason = f"it ends at {end_s:.2f} s, its header says {promised_s:.2f} s"
            raise VideoError("truncated", reason)
    if not any(is_shown):
        raise VideoError("damaged", "it has a video stream but no frames")
    table = None
    if None not in pts and len(set(pts)) == len(pts):
        table = PacketTable(np.array(pts), np.array(is_key), np.array(is_shown))
    return table, held if num_bytes <= MAX_HELD_BYTES else _packets_again(container, stream)


def _promised_end_s(stream: VideoStream) -> float | None:
    """The end of the stream as Matroska and WebM note it, in seconds."""
    noted = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", ""))
    if noted is None:
        return None
    hours, minutes, seconds = noted.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet]:
    return (packet for packet in container.demux(stream) if packet.size)  # the last is a flush


def _packets_again(container: InputContainer, stream: VideoStream) -> Iterator[Packet]:
    container.seek(0)
    yield from _packets(container, stream)
