"""Which packets of a video must be decoded for the frames that are wanted."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int


@dataclass(frozen=True, slots=True)
class PacketTable:
    """The packets of a video stream in the order in which they are decoded."""

    pts: Int[np.ndarray, " num_packets"]
    """When the frame is shown, in the stream's time base; no two alike."""

    is_key: Bool[np.ndarray, " num_packets"]
    """Whether decoding can begin here."""

    is_shown: Bool[np.ndarray, " num_packets"]
    """Whether the frame is shown; an edit list hides what was cut off."""

    def shown_pts(self) -> Int[np.ndarray, " num_shown"]:
        """Times of the frames that are shown, rising."""
        return np.sort(self.pts[self.is_shown])


def packets_to_decode(packets: PacketTable, wanted: Collection[int]) -> list[range]:
    """Runs of packets, in decoding order, each beginning with a key frame, that give `wanted`.

    A group of pictures goes from a key frame to the next. A run holds the groups of the wanted
    frames as far as the last of them, and where a wanted frame is shown before its group's key
    frame, as the leading frames of an open group are, the group before as well, which it may
    refer to. Wanted frames before the first key frame cannot be had and are left out.
    """
    keys = np.flatnonzero(packets.is_key)
    positions = np.flatnonzero(np.isin(packets.pts, list(wanted)))
    positions = positions[positions >= keys[0]] if len(keys) else positions[:0]
    group = np.searchsorted(keys, positions, side="right") - 1
    is_leading = packets.pts[positions] < packets.pts[keys[group]]
    runs: list[range] = []
    for position, own, leads in zip(
        positions.tolist(), group.tolist(), is_leading.tolist(), strict=True
    ):
        first = int(keys[max(0, own - leads)])
        if runs and first <= runs[-1].stop:
            runs[-1] = range(runs[-1].start, position + 1)
        else:
            runs.append(range(first, position + 1))
    return runs


def leading_packets(packets: PacketTable, run: range) -> list[int]:
    """Packets of a run's first group that may refer to a group that is not decoded.

    They are shown before the key frame and wanted by nobody.
    """
    later_keys = np.flatnonzero(packets.is_key[run.start + 1 : run.stop])
    stop = run.start + 1 + int(later_keys[0]) if len(later_keys) else run.stop
    pts = packets.pts[run.start : stop]
    return (run.start + np.flatnonzero(pts < pts[0])).tolist()
