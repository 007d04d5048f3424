"""A benchmark's videos, found below a folder by their ids, as a manifest; checked whole."""

import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa

from xpool_platform.config import DataConfig
from xpool_platform.data.benchmark_sets import (
    AnnotatedVideo,
    read_lsmdc,
    read_msrvtt,
    read_msvd,
)
from xpool_platform.data.manifest import MAX_LISTED, SCHEMA, SPLITS
from xpool_platform.errors import UserError

VIDEO_SUFFIXES = frozenset(
    (
        *(".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov"),
        *(".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"),
    )
)


def benchmark_manifest(config: DataConfig, splits: Collection[str] = SPLITS) -> pa.Table:
    """The manifest of `config.source`.

    Videos are found anywhere below data.root by their id with any usual extension; those of other
    splits than `splits` may be missing, and then have an empty uri. Raises UserError
    that lists everything that is wrong: videos that are missing, there twice, in two splits or
    without a caption, and annotation files that are missing or malformed.
    """
    root = Path(config.root)
    if not root.is_dir():
        raise UserError(
            f"data.root {config.root!r} is not a folder; give the folder that holds the videos of "
            f"{config.source}: --data.root PATH"
        )
    annotations = Path(config.annotations) if config.annotations else root
    match config.source:
        case "msrvtt":
            videos = read_msrvtt(annotations, config.msrvtt_train)
        case "msvd":
            videos = read_msvd(annotations)
        case "lsmdc":
            videos = read_lsmdc(annotations)
        case _:
            raise AssertionError(config.source)
    files = _video_files(root)
    problems = _problems(videos, files, root, splits)
    if problems:
        shown = problems[:MAX_LISTED]
        more = [f"and {len(problems) - MAX_LISTED} more"] if len(problems) > MAX_LISTED else []
        raise UserError(
            f"{config.source} in {annotations} does not fit the videos below {root}, "
            f"{len(problems)} problems:\n  " + "\n  ".join([*shown, *more])
        )
    rows = [
        {
            "video_id": video.video_id,
            "uri": str(next(iter(files.get(video.video_id, [])), "")),
            "split": video.split,
            "captions": video.captions,
            "start_s": None,
            "end_s": None,
        }
        for video in videos
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _video_files(root: Path) -> dict[str, list[Path]]:
    """The video files below a folder by their name without the extension."""
    files: dict[str, list[Path]] = {}
    seen: set[str] = set()
    for folder, below, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link to a folder above
            below.clear()
            continue
        seen.add(real)
        for name in names:
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in VIDEO_SUFFIXES:
                files.setdefault(stem, []).append(Path(folder, name))
    return files


def _problems(
    videos: list[AnnotatedVideo],
    files: dict[str, list[Path]],
    root: Path,
    splits: Collection[str],
) -> list[str]:
    problems = []
    named = Counter(video.video_id for video in videos)
    problems += [f"{video_id} is listed {n} times" for video_id, n in named.items() if n > 1]
    for video in videos:
        found = files.get(video.video_id, [])
        if not found and video.split in splits:
            problems.append(f"{video.video_id} ({video.split}) has no video file")
        elif len(found) > 1:
            where = " and ".join(str(path.relative_to(root)) for path in sorted(found))
            problems.append(f"{video.video_id} has {len(found)} video files: {where}")
        if not video.captions or not all(video.captions):
            problems.append(f"{video.video_id} ({video.split}) has no caption, or an empty one")
    return problems
