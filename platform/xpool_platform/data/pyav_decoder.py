"""The default decoder: exact by time stamps, strict about damage, local files only.

The packets are read first, so that the times of all frames are known before any is decoded. Then
only the groups of pictures are decoded that a wanted frame needs, without the frames in them that
nothing refers to. Wherever that does not give every wanted frame, the stream is decoded once
through instead, and what fails then is the file's own fault.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from typing import Generic

import av
import numpy as np
from av.packet import Packet
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import Float

from xpool_platform.data.packets import PacketTable, leading_packets, packets_to_decode
from xpool_platform.data.pyav_file import MAX_PIXELS, opened_video, read_packets
from xpool_platform.data.video import (
    FrameSettings,
    KeepPicture,
    Kept,
    SampledVideo,
    VideoError,
    choose_frames,
    scaled_size,
    segment_bounds,
)

SKIPPING_CODECS = ("h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vp8", "vp9")
"""Decoders that may be told before each packet to leave out a frame that none refers to."""


class _MissingFramesError(Exception):
    """A wanted frame did not come."""


def decode_with_pyav(
    path: str,
    settings: FrameSettings,
    start_s: float | None,
    end_s: float | None,
    keep: KeepPicture[Kept],
) -> SampledVideo[Kept]:
    """The frames of a segment, by `choose_frames`. Raises VideoError."""
    with opened_video(path) as (container, stream):
        table, packets = read_packets(container, stream)
        if table is not None:
            times = table.shown_pts()
            shown = (times - times[:1]) * float(stream.time_base or 1)
            chosen = choose_frames(shown, settings, start_s, end_s)
            wanted = times[chosen].tolist()
            needed = _needed_frames(packets, table, wanted)
            with suppress(av.error.FFmpegError, _MissingFramesError):
                kept = _kept(
                    ((frame.pts, frame) for frame in needed),
                    wanted,
                    _Pictures(stream, settings.short_side, keep),
                )
                return _sampled(kept, chosen, shown, start_s, end_s)
    shown, keys = _decoded_times(path, table)
    chosen = choose_frames(shown, settings, start_s, end_s)
    wanted = [keys[index] for index in chosen]
    with opened_video(path) as (container, stream):
        decoded = enumerate(container.decode(stream))
        known = ((index if table is None else frame.pts, frame) for index, frame in decoded)
        try:
            kept = _kept(known, wanted, _Pictures(stream, settings.short_side, keep))
        except _MissingFramesError as error:
            raise VideoError("damaged", str(error)) from error
    return _sampled(kept, chosen, shown, start_s, end_s)


def _needed_frames(
    packets: Iterable[Packet], table: PacketTable, wanted: Collection[int]
) -> Iterator[av.VideoFrame]:
    """The wanted frames, and those that they refer to, in the order in which they are shown."""
    wanted = frozenset(wanted)
    runs = packets_to_decode(table, wanted)
    unwanted_leading = {position for run in runs for position in leading_packets(table, run)}
    upcoming = iter(runs)
    run = next(upcoming, None)
    for position, packet in enumerate(packets):
        if run is None:
            return
        if packet.pts != table.pts[position]:
            raise _MissingFramesError("its packets came in another order the second time")
        if position not in run or position in unwanted_leading:
            continue
        context = packet.stream.codec_context
        if context.name in SKIPPING_CODECS:
            context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        yield from packet.decode()
        if position == run.stop - 1:
            yield from context.decode(None)
            context.flush_buffers()
            run = next(upcoming, None)


def _decoded_times(
    path: str, table: PacketTable | None
) -> tuple[Float[np.ndarray, " num_shown"], list[int]]:
    """Times of the frames that decode, from 0, and what they are known by: their pts or number.

    Frames before the first that decodes may be missing, as where a recording begins between key
    frames; one missing after it is damage. Without times, frames come at the nominal rate.
    """
    with opened_video(path) as (container, stream):
        pts = [frame.pts for frame in container.decode(stream)]
        if not pts:
            raise VideoError("damaged", "none of its frames can be decoded")
        if table is None:
            rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            return np.arange(len(pts)) / float(rate), list(range(len(pts)))
        promised = table.shown_pts()
        promised = promised[promised >= (pts[0] if pts[0] is not None else promised[0])]
        missing = len(set(promised.tolist()).difference(pts))
        if missing:
            raise VideoError("damaged", f"{missing} of {len(promised)} frames cannot be decoded")
        return (promised - promised[0]) * float(stream.time_base or 1), promised.tolist()


def _kept(
    frames: Iterator[tuple[int | None, av.VideoFrame]],
    wanted: Sequence[int],
    pictures: "_Pictures[Kept]",
) -> list[Kept]:
    """What is kept of each wanted frame, by what it is known by.

    All frames are looked at, those after the last wanted one too: a wanted frame may refer to any
    of them, and what a corrupt one spoils carries no mark of its own.
    """
    kept: dict[int, Kept] = {}
    missing = set(wanted)
    for key, frame in frames:
        if frame.is_corrupt:
            raise VideoError("damaged", f"the frame at {frame.time or 0:.2f} s is corrupt")
        if key is not None and key in missing:
            kept[key] = pictures.keep(frame)
            missing.remove(key)
    if missing:
        num_wanted = len(kept) + len(missing)
        raise _MissingFramesError(f"{len(missing)} of {num_wanted} frames did not come")
    return [kept[key] for key in wanted]


def _sampled(
    kept: list[Kept],
    chosen: list[int],
    shown: Float[np.ndarray, " num_shown"],
    start_s: float | None,
    end_s: float | None,
) -> SampledVideo[Kept]:
    start, end = segment_bounds(shown, start_s, end_s)
    return SampledVideo(frames=kept, times_s=shown[chosen], duration_s=end - start)


class _Pictures(Generic[Kept]):
    """From decoded frames to what is kept of them: bounded, scaled, upright."""

    def __init__(self, stream: VideoStream, short_side: int, keep: KeepPicture[Kept]) -> None:
        self._aspect = stream.sample_aspect_ratio or Fraction(1)
        self._short_side = short_side
        self._keep = keep
        self._scaler = VideoReformatter()  # one for all frames: it prepares its filters once

    def keep(self, frame: av.VideoFrame) -> Kept:
        if frame.width * frame.height > MAX_PIXELS:
            raise VideoError("too-large", f"a frame of {frame.width} x {frame.height} pixels")
        shown_width = max(1, round(frame.width * self._aspect))
        width, height = scaled_size(shown_width, frame.height, self._short_side)
        # planes of colour: the same pixels as rgb24, and three times faster to scale
        picture = self._scaler.reformat(
            frame, width, height, format="gbrp", interpolation="BICUBIC", threads=1
        ).to_ndarray()
        return self._keep(np.ascontiguousarray(np.rot90(picture, k=round(frame.rotation / 90))))
