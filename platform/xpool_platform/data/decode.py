"""Every video of a manifest decoded once, by Ray Data over CPU workers, into the frame store."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray

from xpool_platform.data.decode_guard import process_guard
from xpool_platform.data.feed import MAX_RETRIES
from xpool_platform.data.frame_store import (
    StoredVideo,
    frames_uri,
    stored_video,
    stored_videos,
    video_names,
    write_frames,
)
from xpool_platform.data.kept_frames import Decoding
from xpool_platform.data.video import FrameSettings, VideoError
from xpool_platform.data_config import DataConfig
from xpool_platform.locations import local_file
from xpool_platform.placement import DECODE, WHERE_DECODING, does, living_nodes, num_cpus

TASKS_PER_WORKER = 6
"""Few, since Ray Data takes a fifth of a second between two tasks; enough to end together."""

MAX_VIDEOS_PER_TASK = 128


RESULT_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("kind", pa.string()),
        ("reason", pa.string()),
        ("num_frames", pa.int64()),
        ("duration_s", pa.float64()),
    ]
)


@dataclass(frozen=True, slots=True)
class BadVideo:
    """A video that gave no frames."""

    video_id: str
    uri: str
    split: str
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class DecodedManifest:
    """A manifest whose videos have all been decoded."""

    videos: pa.Table
    """The manifest without the bad videos; with `frames_uri`, `num_frames` and `duration_s`."""

    bad: list[BadVideo]
    """What was left out."""

    num_decoded: int
    """Videos decoded now; the others were in the store."""

    def of_split(self, split: str) -> "DecodedManifest":
        """That of one split."""
        return DecodedManifest(
            videos=self.videos.filter(pc.equal(self.videos["split"], split)),
            bad=[video for video in self.bad if video.split == split],
            num_decoded=self.num_decoded,
        )


def decode_manifest(
    manifest: pa.Table,
    config: DataConfig,
    store: str,
    on_progress: Callable[[int, int], None],
) -> DecodedManifest:
    """Fill the store with what is missing; on_progress gets (done, total) of the missing ones.

    With data.cache none every video is decoded to see that it can be, and nothing is kept.
    """
    settings = FrameSettings.of(config)
    rows = manifest.to_pylist()
    names = video_names(rows)
    kept = config.cache == "frames"
    stored = stored_videos(store, names) if kept else {}
    uris = {
        name: frames_uri(store, name) if kept else _decoding(row, config, settings).uri()
        for name, row in zip(names, rows, strict=True)
    }
    missing = {
        name: {
            "name": name,
            "uri": row["uri"],
            "start_s": row["start_s"],
            "end_s": row["end_s"],
            "frames_uri": uris[name],
        }
        for name, row in zip(names, rows, strict=True)
        if name not in stored
    }
    errors: dict[str, tuple[str, str]] = {}
    on_progress(0, len(missing))
    if missing:
        dataset = ray.data.from_items(
            list(missing.values()), override_num_blocks=_num_tasks(len(missing), config)
        ).map_batches(
            _decode_rows,
            fn_args=(config, settings),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=config.decode_cpus,
            label_selector=WHERE_DECODING,
            max_retries=MAX_RETRIES,
        )
        # there is one operator: reserving for others would make all workers but one begin late
        dataset.context.op_resource_reservation_enabled = False
        for done, row in enumerate(dataset.iter_rows(), start=1):
            if row["kind"]:
                errors[row["name"]] = row["kind"], row["reason"]
            else:
                stored[row["name"]] = StoredVideo(row["num_frames"], row["duration_s"])
            on_progress(done, len(missing))
    good = [name in stored for name in names]
    found = [stored[name] for name in names if name in stored]
    videos = manifest.filter(pa.array(good, pa.bool_()))
    columns = {
        "frames_uri": pa.array([uris[name] for name in names if name in stored], pa.string()),
        "num_frames": pa.array([video.num_frames for video in found], pa.int64()),
        "duration_s": pa.array([video.duration_s for video in found], pa.float64()),
    }
    for name, column in columns.items():
        videos = videos.append_column(name, column)
    bad = [
        BadVideo(row["video_id"], row["uri"], row["split"], *errors[name])
        for name, row in zip(names, rows, strict=True)
        if name not in stored
    ]
    return DecodedManifest(videos, bad, num_decoded=len(missing) - len(errors))


def errors_table(bad: list[BadVideo]) -> pa.Table:
    """The bad videos as a table: video_id, uri, split, kind, reason."""
    schema = pa.schema([(name, pa.string()) for name in BadVideo.__slots__])
    return pa.Table.from_pylist([asdict(video) for video in bad], schema=schema)


def _decoding(row: dict[str, Any], config: DataConfig, settings: FrameSettings) -> Decoding:
    return Decoding(
        path=row["uri"],
        start_s=row["start_s"],
        end_s=row["end_s"],
        settings=settings,
        deadline_s=config.decode_deadline_s,
        memory_bytes=config.decode_memory_bytes,
    )


def _num_tasks(num_videos: int, config: DataConfig) -> int:
    cpus = num_cpus([node for node in living_nodes() if does(node, DECODE)])
    num_workers = max(1, int(cpus / config.decode_cpus))
    wanted = max(TASKS_PER_WORKER * num_workers, -(-num_videos // MAX_VIDEOS_PER_TASK))
    return min(num_videos, wanted)


def _decode_rows(rows: pa.Table, config: DataConfig, settings: FrameSettings) -> pa.Table:
    return pa.Table.from_pylist(
        [_decode_row(row, config, settings) for row in rows.to_pylist()], schema=RESULT_SCHEMA
    )


def _decode_row(row: dict[str, Any], config: DataConfig, settings: FrameSettings) -> dict[str, Any]:
    guard = process_guard(config.decode_deadline_s, config.decode_memory_bytes)
    result = {"name": row["name"], "kind": "", "reason": "", "num_frames": 0, "duration_s": 0.0}
    kept = config.cache == "frames"
    there = stored_video(row["frames_uri"]) if kept else None
    if there is not None:  # by another job, or by this task before its worker died
        return {**result, **asdict(there)}
    with ExitStack() as stack:
        try:
            path = stack.enter_context(local_file(row["uri"]))
        except OSError as error:
            reason = " ".join(str(error).split())[:300]
            return {**result, "kind": "unreadable", "reason": reason}
        try:
            video = guard.encode(path, settings, row["start_s"], row["end_s"])
        except VideoError as error:
            return {**result, "kind": error.kind, "reason": error.reason}
    if kept:
        write_frames(row["frames_uri"], video)
    return {**result, "num_frames": len(video.jpegs), "duration_s": video.duration_s}
