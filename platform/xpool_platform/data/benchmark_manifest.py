"""A benchmark's videos, found below a folder by their ids, as a manifest; checked whole."""

import os
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa

from xpool_platform.data.annotation_copies import annotations_here
from xpool_platform.data.benchmark_checks import benchmark_problems, files_of
from xpool_platform.data.benchmark_sets import (
    AnnotatedVideo,
    read_activitynet,
    read_lsmdc,
    read_msrvtt,
    read_msvd,
)
from xpool_platform.data.manifest import SCHEMA, SPLITS
from xpool_platform.data.problems import problems_error
from xpool_platform.data.video_files import video_files
from xpool_platform.data_config import DataConfig
from xpool_platform.errors import UserError
from xpool_platform.locations import is_uri


def benchmark_manifest(config: DataConfig, splits: Collection[str] = SPLITS) -> pa.Table:
    """The manifest of `config.source`.

    Videos are found anywhere below data.root by their id with any usual extension; those of other
    splits than `splits` may be missing or empty, and then have an empty uri. Raises UserError that
    lists everything that is wrong: videos that are missing, empty, there twice, in two splits or
    without a caption, and annotation files that are missing or malformed.
    """
    if not is_uri(config.root) and not os.path.isdir(config.root):
        raise UserError(
            f"data.root {config.root!r} is not a folder; give the folder that holds the videos of "
            f"{config.source}: --data.root PATH"
        )
    annotations = config.annotations or config.root
    with annotations_here(annotations) as folder:
        videos = _read(config, folder)
    files = video_files(config.root)
    if problems := benchmark_problems(videos, files, splits):
        raise problems_error(
            f"{config.source} in {annotations} does not fit the videos below {config.root}",
            problems,
            "add what is missing, take away what is too much, then run again",
        )
    rows = [
        {
            "video_id": video.video_id,
            "uri": next(
                (
                    file.location
                    for file in files_of(video, files)
                    if video.split in splits or file.problem() is None
                ),
                "",
            ),
            "split": video.split,
            "captions": video.captions,
            "start_s": None,
            "end_s": None,
        }
        for video in videos
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _read(config: DataConfig, folder: Path) -> list[AnnotatedVideo]:
    match config.source:
        case "msrvtt":
            return read_msrvtt(folder, config.msrvtt_train)
        case "msvd":
            return read_msvd(folder)
        case "lsmdc":
            return read_lsmdc(folder)
        case "activitynet":
            return read_activitynet(folder)
        case _:
            raise AssertionError(config.source)
