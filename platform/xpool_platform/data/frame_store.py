"""Decoded frames, each video once: Parquet files of JPEG frames with their times.

A store is a folder that is named by the fingerprint of its `FrameSettings`. It may lie on any file
system of pyarrow. A video is one file in it, named by the video's identity: written whole or not at
all, never changed, so several jobs may fill a store at once and others read it meanwhile.
"""

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
from jaxtyping import UInt8

from xpool_platform.data.video import DecodedVideo, EncodedVideo
from xpool_platform.errors import UserError
from xpool_platform.locations import (
    files_below,
    filesystem_of,
    identity,
    read_whole,
    write_whole,
)

SCHEMA = pa.schema([("time_s", pa.float64()), ("jpeg", pa.binary())])
DURATION = b"duration_s"
NUM_READERS = 16


@dataclass(frozen=True, slots=True)
class StoredVideo:
    """What a store knows of a video."""

    num_frames: int
    duration_s: float


def video_name(uri: str, start_s: float | None, end_s: float | None) -> str:
    """A name that changes when the video's path, size, modification time or segment does."""
    num_bytes, modified_ns = identity(uri)
    whole = f"{uri}\0{num_bytes}\0{modified_ns}\0{start_s}\0{end_s}"
    return hashlib.blake2b(whole.encode(errors="surrogateescape"), digest_size=16).hexdigest()


def video_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of a manifest's rows, in order; an object store is asked for many at a time."""
    with ThreadPoolExecutor(NUM_READERS) as pool:
        return list(
            pool.map(lambda row: video_name(row["uri"], row["start_s"], row["end_s"]), rows)
        )


def frames_uri(store: str, name: str) -> str:
    """Where a store keeps the frames of a video."""
    return f"{store}/{name[:2]}/{name}.parquet"


def write_frames(uri: str, video: EncodedVideo) -> None:
    """Write a video's frames, whole or not at all."""
    schema = SCHEMA.with_metadata({DURATION: repr(video.duration_s).encode()})
    table = pa.table({"time_s": video.times_s, "jpeg": video.jpegs}, schema=schema)
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="none",
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
    )
    write_whole(uri, sink.getvalue())


def stored_videos(store: str, names: Sequence[str]) -> dict[str, StoredVideo]:
    """Those of the named videos that are in a store."""
    sizes = {info.base_name: info.size for info in files_below(store)}
    there = [name for name in names if sizes.get(f"{name}.parquet")]
    with ThreadPoolExecutor(NUM_READERS) as pool:
        found = pool.map(lambda name: stored_video(frames_uri(store, name)), there)
        return {name: video for name, video in zip(there, found, strict=True) if video is not None}


def read_frames(uri: str, indices: Sequence[int]) -> UInt8[np.ndarray, "num_frames height width 3"]:
    """The frames of these indices. Raises UserError if the file is damaged or gone."""
    return _read(uri, indices, ["jpeg"])[0]


def read_video(uri: str, indices: Sequence[int]) -> DecodedVideo:
    """The frames of these indices with their times. Raises UserError as `read_frames`."""
    frames, table = _read(uri, indices, ["jpeg", "time_s"])
    return DecodedVideo(frames=frames, times_s=table["time_s"].to_numpy()[list(indices)])


def _read(
    uri: str, indices: Sequence[int], columns: list[str]
) -> tuple[UInt8[np.ndarray, "num_frames height width 3"], pa.Table]:
    """The frames of these indices, and the columns of all."""
    done: dict[int, np.ndarray] = {}
    try:
        parquet = pq.ParquetFile(pa.BufferReader(read_whole(uri)), page_checksum_verification=True)
        table = parquet.read(columns=columns, use_threads=False)
        column = table["jpeg"].combine_chunks()
        jpegs = [memoryview(column[index].as_buffer()).cast("B") for index in indices]
        height, width, _, _ = simplejpeg.decode_jpeg_header(jpegs[0])
        frames = np.empty((len(jpegs), height, width, 3), np.uint8)
        for index, jpeg, frame in zip(indices, jpegs, frames, strict=True):
            previous = done.setdefault(index, frame)
            if previous is frame:
                simplejpeg.decode_jpeg(jpeg, buffer=frame)
            else:
                frame[:] = previous
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(
            f"the frames in {uri} cannot be read ({error}); remove that file and run again: the "
            "video will be decoded again"
        ) from error
    return frames, table


def stored_video(uri: str) -> StoredVideo | None:
    """The video whose frames are in a file; None if it is not there, or not whole."""
    filesystem, path = filesystem_of(uri)
    try:
        with filesystem.open_input_file(path) as file:
            metadata = pq.read_metadata(file)
        return StoredVideo(metadata.num_rows, float(metadata.metadata[DURATION]))
    except (pa.ArrowException, OSError, KeyError):  # to be written again
        return None
