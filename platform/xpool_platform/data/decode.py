"""Every video of a manifest decoded once, by Ray Data over CPU workers, into the frame cache."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray

from xpool_platform.config import DataConfig
from xpool_platform.data.decode_guard import process_guard
from xpool_platform.data.frame_cache import frames_path, num_frames, write_frames
from xpool_platform.data.video import FrameSettings, VideoError
from xpool_platform.errors import UserError

VIDEOS_PER_TASK = 16
MAX_TASKS = 500
MAX_LISTED = 20


@dataclass(frozen=True, slots=True)
class BadVideo:
    """A video that gave no frames."""

    video_id: str
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class DecodedManifest:
    """A manifest whose videos are all in the cache."""

    videos: pa.Table
    """The manifest without the bad videos, with the columns `frames_path` and `num_frames`."""

    bad: list[BadVideo]
    """What was left out."""

    num_decoded: int
    """Videos decoded now; the others were in the cache."""


def decode_manifest(
    manifest: pa.Table,
    config: DataConfig,
    cache_dir: Path,
    on_progress: Callable[[int, int], None],
) -> DecodedManifest:
    """Fill the cache with what is missing; on_progress gets (done, total) of the missing ones.

    Raises UserError if more than data.max_bad_fraction of the videos cannot be decoded; the
    message names them with their reasons.
    """
    settings = FrameSettings.of(config)
    paths = [
        str(frames_path(cache_dir, settings, row["uri"], row["start_s"], row["end_s"]))
        for row in manifest.to_pylist()
    ]
    videos = manifest.append_column("frames_path", pa.array(paths, pa.string()))
    counts = [num_frames(Path(path)) for path in paths]
    missing = [row for row, count in zip(videos.to_pylist(), counts, strict=True) if not count]
    bad: dict[str, BadVideo] = {}
    decoded: dict[str, int] = {}
    on_progress(0, len(missing))
    if missing:
        dataset = ray.data.from_items(
            missing, override_num_blocks=min(MAX_TASKS, -(-len(missing) // VIDEOS_PER_TASK))
        ).map(_decode_row, fn_args=(config, settings), num_cpus=config.decode_cpus)
        for done, row in enumerate(dataset.iter_rows(), start=1):
            if row["kind"]:
                bad[row["video_id"]] = BadVideo(row["video_id"], row["kind"], row["reason"])
            decoded[row["video_id"]] = row["num_frames"]
            on_progress(done, len(missing))
    _check_bad(list(bad.values()), len(paths), config)
    all_counts = [
        count or decoded[video_id]
        for count, video_id in zip(counts, manifest["video_id"].to_pylist(), strict=True)
    ]
    videos = videos.append_column("num_frames", pa.array(all_counts, pa.int64()))
    good = pa.array([count > 0 for count in all_counts])
    return DecodedManifest(
        videos=videos.filter(good), bad=list(bad.values()), num_decoded=len(decoded) - len(bad)
    )


def _decode_row(row: dict[str, Any], config: DataConfig, settings: FrameSettings) -> dict[str, Any]:
    guard = process_guard(config.decode_deadline_s, config.decode_memory_bytes)
    result = {"video_id": row["video_id"], "kind": "", "reason": "", "num_frames": 0}
    try:
        video = guard.decode(row["uri"], settings, row["start_s"], row["end_s"])
    except VideoError as error:
        return {**result, "kind": error.kind, "reason": error.reason}
    write_frames(Path(row["frames_path"]), video)
    return {**result, "num_frames": len(video.frames)}


def _check_bad(bad: list[BadVideo], num_videos: int, config: DataConfig) -> None:
    if len(bad) <= config.max_bad_fraction * num_videos:
        return
    listed = [f"{video.video_id}: {video.kind}, {video.reason}" for video in bad[:MAX_LISTED]]
    more = [f"and {len(bad) - MAX_LISTED} more"] if len(bad) > MAX_LISTED else []
    raise UserError(
        f"{len(bad)} of {num_videos} videos cannot be decoded, more than the share "
        f"data.max_bad_fraction = {config.max_bad_fraction:g} allows:\n  "
        + "\n  ".join([*listed, *more])
        + "\nreplace them, take them out, or raise --data.max-bad-fraction"
    )
