"""What has to be done so that an index holds some videos as they are now."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from xpool_platform.errors import UserError
from xpool_platform.locations import identity
from xpool_platform.search.segment import Segment

NUM_ASKING = 16
"""Files whose size and time are asked for at a time, of an object store."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What is to become of an index."""

    added: pa.Table
    """Videos to encode, as `encode_videos.encoded_videos` takes them."""

    removed: dict[str, list[int]]
    """Rows to take out, by segment."""


def with_identities(videos: pa.Table) -> pa.Table:
    """Videos with `num_bytes` and `modified_ns` of their files, 0 where there is none.

    To be asked before they are decoded: one that changes meanwhile is another one to the next job.
    """
    with ThreadPoolExecutor(NUM_ASKING) as pool:
        found = list(pool.map(_file_identity, videos["uri"].to_pylist()))
    for i, name in enumerate(("num_bytes", "modified_ns")):
        column = pa.array([identity[i] for identity in found], pa.int64())
        videos = videos.append_column(name, column)
    return videos


def indexed_rows(videos: pa.Table) -> pa.Table:
    """Decoded videos as an index's table has them, with `frames_uri` and `num_frames`."""
    names = pa.array([_identity(row) for row in videos.to_pylist()], pa.string())
    return videos.append_column("identity", names)


def change_to(segments: Sequence[Segment], videos: pa.Table, *, remove_missing: bool) -> Change:
    """What has to be done so that an index holds these videos as they are now."""
    there: dict[str, tuple[str, str, int]] = {}
    for segment in segments:
        gone = set(segment.removed.tolist())
        ids = segment.videos["video_id"].to_pylist()
        identities = segment.videos["identity"].to_pylist()
        for row, (video_id, name) in enumerate(zip(ids, identities, strict=True)):
            if row not in gone:
                there[video_id] = name, segment.entry.name, row
    wanted = dict(
        zip(videos["video_id"].to_pylist(), videos["identity"].to_pylist(), strict=True)
        if len(videos)
        else ()
    )
    new = [video_id not in there or there[video_id][0] != name for video_id, name in wanted.items()]
    removed: dict[str, list[int]] = {}
    for video_id, (name, segment_name, row) in there.items():
        changed = video_id in wanted and wanted[video_id] != name
        if changed or (remove_missing and video_id not in wanted):
            removed.setdefault(segment_name, []).append(row)
    added = videos.filter(pa.array(new, pa.bool_())) if len(videos) else videos
    return Change(added=added, removed=removed)


def removal_of(segments: Sequence[Segment], video_ids: Sequence[str]) -> Change:
    """Videos to take out by their ids. Raises UserError if one is not in the index."""
    removed: dict[str, list[int]] = {}
    left = set(video_ids)
    for segment in segments:
        gone = set(segment.removed.tolist())
        for row, video_id in enumerate(segment.videos["video_id"].to_pylist()):
            if video_id in left and row not in gone:
                removed.setdefault(segment.entry.name, []).append(row)
                left.discard(video_id)
    if left:
        raise UserError(f"remove: the index has no video {sorted(left)[0]!r}; nothing was changed")
    return Change(added=pa.table({}), removed=removed)


def _file_identity(uri: str) -> tuple[int, int]:
    return identity(uri) if uri else (0, 0)


def _identity(row: dict[str, Any]) -> str:
    """What changes when the file, the segment or the captions of a video do."""
    file = (row["uri"] or row["frames_uri"], row["num_bytes"], row["modified_ns"])
    parts = (*file, row["start_s"], row["end_s"], *row["captions"])
    text = "\0".join(map(str, parts))
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=16).hexdigest()
