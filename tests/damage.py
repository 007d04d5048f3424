"""Whether FFmpeg itself sees damage: what a decoder may not pass off as good."""

from collections.abc import Collection
from pathlib import Path

import av
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream


def damage_shows(path: Path, times_s: Collection[float]) -> bool:
    """Whether decoding the frames at these times, and what they refer to, shows any damage.

    Each is decoded from its key frame on, strictly, by one thread, without the frames that nothing
    refers to. A changed byte may give a file that is as valid as before, of other pictures; then
    nothing shows.
    """
    strict = {"err_detect": "explode", "protocol_whitelist": "file"}
    try:
        with av.open(str(path), options=strict, metadata_errors="ignore") as container:
            stream = container.streams.video[0]
            stream.codec_context.options = {"err_detect": "explode"}
            stream.codec_context.thread_count = 1
            packets = [packet for packet in container.demux(stream) if packet.size]
            if any(packet.is_corrupt for packet in packets):
                return True
            pts = [packet.pts for packet in packets]
            if None in pts or len(set(pts)) < len(pts):  # then only decoding all gives times
                return _shows_damage(packets, stream, skip="DEFAULT")
            return any(
                _shows_damage(packets[run.start : run.stop], stream, skip="NONREF")
                for run in _runs(packets, times_s, stream)
            )
    except av.FFmpegError:
        return True


def _runs(packets: list[Packet], times_s: Collection[float], stream: VideoStream) -> set[range]:
    """From the key frame of each frame to the frame; one before where it leads its group."""
    pts = [packet.pts for packet in packets]
    first = min(packet.pts for packet in packets if not packet.is_discard)
    keys = [position for position, packet in enumerate(packets) if packet.is_keyframe] or [0]
    runs = set()
    for time_s in times_s:
        position = int(np.argmin([abs((at - first) * stream.time_base - time_s) for at in pts]))
        own = max(0, int(np.searchsorted(keys, position, side="right")) - 1)
        leads = pts[position] < pts[keys[own]]
        runs.add(range(keys[max(0, own - leads)], position + 1))
    return runs


def _shows_damage(packets: list[Packet], stream: VideoStream, skip: str) -> bool:
    context = stream.codec_context
    corrupt = []
    for packet in packets:
        context.skip_frame = "DEFAULT" if packet is packets[-1] else skip
        corrupt += [frame.is_corrupt for frame in packet.decode()]
    corrupt += [frame.is_corrupt for frame in context.decode(None)]
    context.flush_buffers()
    return any(corrupt)
