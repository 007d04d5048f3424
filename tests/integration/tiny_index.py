"""Small indexes of a tiny model and real files, made in this process."""

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import torch

from videos import write_video
from xpool_platform.checkpoint import load_checkpoint
from xpool_platform.data.decode_guard import DecodeGuard
from xpool_platform.data.frame_store import write_frames
from xpool_platform.data.video import FrameSettings
from xpool_platform.search.changes import indexed_rows, with_identities
from xpool_platform.search.encode_videos import VideoEncoder, sampled_clip
from xpool_platform.search.index_files import (
    INDEX,
    IndexVersion,
    read_version,
    write_version,
    writing,
)
from xpool_platform.search.index_writer import IndexWriter, new_version
from xpool_platform.search.indexed_model import fingerprint_of

THUMBNAIL_SIDE = 48


def some_videos(folder: Path, ids: Sequence[str], *, seconds: float = 1.0) -> dict[str, Path]:
    """Files that differ in their length, whatever they are called in the index."""
    folder.mkdir(parents=True, exist_ok=True)
    return {
        video_id: write_video(folder / f"{number}.mp4", round(21 * seconds) + 3 * number)
        for number, video_id in enumerate(ids)
    }


def add_to_index(
    folder: Path,
    checkpoint: str,
    videos: Mapping[str, Path],
    *,
    captions: Mapping[str, Sequence[str]] | None = None,
    two_stage_from: int = 0,
    batch_size: int = 8,
) -> IndexVersion:
    """An index with these videos, or one that is there with them besides, by their ids."""
    model, config, _ = load_checkpoint(checkpoint)
    with writing(folder):
        if (folder / INDEX).exists():
            version = read_version(folder)
        else:
            fingerprint = fingerprint_of(model, config)
            version = new_version(folder, model, config, fingerprint, checkpoint)
        decoded = _decoded(videos, captions or {}, folder.with_name("frames"), config)
        rows = indexed_rows(with_identities(decoded))
        writer = IndexWriter(folder, version, model, two_stage_from=two_stage_from)
        encoder = VideoEncoder(model, config, torch.device("cpu"), THUMBNAIL_SIDE)

        def encoded():
            for i in range(0, len(rows), batch_size):
                part = rows.slice(i, batch_size).to_pylist()
                clips = [
                    sampled_clip(
                        row.pop("frames_uri"), row.pop("num_frames"), config.data.num_frames
                    )
                    for row in part
                ]
                yield encoder.encode(part, clips)

        entry = writer.write(uuid.uuid4().hex, encoded(), num_videos=len(rows))
        return write_version(folder, writer.next_version([*version.segments, entry]))


def _decoded(
    videos: Mapping[str, Path], captions: Mapping[str, Sequence[str]], store: Path, config
) -> pa.Table:
    store.mkdir(exist_ok=True)
    guard = DecodeGuard(60, 2**32)
    rows = []
    for video_id, path in videos.items():
        video = guard.encode(str(path), FrameSettings.of(config.data))
        uri = f"{store}/{uuid.uuid4().hex}.parquet"
        write_frames(uri, video)
        rows.append(
            {
                "video_id": video_id,
                "uri": str(path),
                "captions": list(captions.get(video_id, ())),
                "start_s": None,
                "end_s": None,
                "duration_s": video.duration_s,
                "frames_uri": uri,
                "num_frames": len(video.jpegs),
            }
        )
    guard.close()
    return pa.Table.from_pylist(rows)
