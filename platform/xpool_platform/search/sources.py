"""What is indexed: anyone's folder, file of captions, manifest or frame store, as one table."""

import math
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xpool_platform.data.caption_files import NAMES, READERS
from xpool_platform.data.captions_txt import read_txt
from xpool_platform.data.decode import BadVideo
from xpool_platform.data.frame_store import frames_uri, stored_videos
from xpool_platform.data.manifest import SCHEMA
from xpool_platform.data.plain_text import id_problem, named
from xpool_platform.data.problems import problems_error
from xpool_platform.data.store_catalogue import is_store, read_settings
from xpool_platform.data.text_files import check_file
from xpool_platform.data.video import FrameSettings
from xpool_platform.data.video_files import file_problem, video_files
from xpool_platform.data_config import DataConfig
from xpool_platform.errors import UserError
from xpool_platform.locations import absolute, files_below, is_file, is_uri, readable

MANIFEST_COLUMNS = ("video_id", "uri")
"""By which a manifest is told from a file of captions."""


@dataclass(frozen=True, slots=True)
class Source:
    """Videos that are to be indexed; exactly one of the fields says which."""

    data: DataConfig | None = None
    """Those of an experiment's data, or of captions."""

    manifest: pa.Table | None = None
    """Those of a table that is there already."""

    store: str = ""
    """All of a frame store, whose videos need not be there any more."""


def find_source(videos: str, data: DataConfig) -> Source:
    """What `videos` means: data of their own, where they have captions, or just files.

    `data` has the settings that frames are made with. Raises UserError for a place that holds no
    videos, or that is wrong as a manifest.
    """
    place = absolute(videos)
    with readable(place):
        has_frames = is_store(place)
    if has_frames:
        return Source(store=place)
    if not is_uri(place) and os.path.isfile(place):
        if _is_manifest(place):
            return Source(manifest=_read_manifest(Path(place)))
        root = absolute(data.root) if data.root else os.path.dirname(place)
        return Source(data=_of_folder(data, root, place))
    if not is_uri(place) and not os.path.isdir(place):
        raise UserError(
            f"videos {videos!r} is neither a folder nor a file; give a folder of videos, a file of "
            f"captions ({', '.join(READERS)}), a manifest, or a frame store"
        )
    if _has_captions(place):
        return Source(data=_of_folder(data, place, ""))
    return Source(manifest=_files(place))


def stored_manifest(store: str, settings: FrameSettings) -> tuple[pa.Table, list[BadVideo]]:
    """The videos of a frame store, with `frames_uri`, `num_frames` and `duration_s`; and those
    whose files are damaged.

    They go by the names of their files in it, and have neither a file to play nor captions. Raises
    UserError if the store's frames are not of these settings, or it is empty.
    """
    its = read_settings(store)
    if its != settings:
        raise UserError(
            f"the frames in {store} were made with {its}, and the model was trained on frames "
            f"made with {settings}; index the videos themselves, or another store"
        )
    ending = ".parquet"
    names = sorted(
        info.base_name.removesuffix(ending)
        for info in files_below(store)
        if info.base_name.endswith(ending) and len(info.base_name) == 32 + len(ending)
    )
    found = stored_videos(store, names)
    if not found:
        raise UserError(f"the frame store {store} holds no video yet")
    rows: list[dict[str, object]] = [
        {"video_id": name, "uri": "", "split": "", "captions": [], "start_s": None, "end_s": None}
        for name in found
    ]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    columns = {
        "frames_uri": pa.array([frames_uri(store, name) for name in found], pa.string()),
        "num_frames": pa.array([video.num_frames for video in found.values()], pa.int64()),
        "duration_s": pa.array([video.duration_s for video in found.values()], pa.float64()),
    }
    for name, column in columns.items():
        table = table.append_column(name, column)
    bad = [
        BadVideo(name, frames_uri(store, name), "", "damaged", "its frames cannot be read")
        for name in names
        if name not in found
    ]
    return table, bad


def _of_folder(data: DataConfig, root: str, annotations: str) -> DataConfig:
    return replace(data, source="folder", root=root, annotations=annotations, val_fraction=0.0)


def _has_captions(folder: str) -> bool:
    if is_uri(folder):
        return any(is_file(f"{folder}/{name}") for name in NAMES)
    if any(os.path.lexists(os.path.join(folder, name)) for name in NAMES):
        return True
    return bool(read_txt(Path(os.path.realpath(folder))))


def _files(folder: str) -> pa.Table:
    """All video files below a folder, named by their paths in it."""
    root = folder if is_uri(folder) else os.path.realpath(folder)
    files = [file for of_name in video_files(root).values() for file in of_name]
    if not files:
        raise UserError(f"videos {folder!r} has no video files below it")
    rows: list[dict[str, object]] = []
    problems = []
    for file in sorted(files, key=lambda file: file.name):
        real = file.real()
        problem = file.problem() or id_problem(file.name)
        if not is_uri(root) and not Path(real).is_relative_to(root):
            problem = "lies outside the folder"
        if problem:
            problems.append(f"{named(file.name)} {problem}")
            continue
        rows.append(
            {"video_id": file.name, "uri": real, "split": "", "captions": []}
            | {"start_s": None, "end_s": None}
        )
    if problems:
        raise problems_error(
            f"the files below {folder}", problems, "take them out, or mend them, then run again"
        )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _is_manifest(place: str) -> bool:
    if not place.endswith(".parquet"):
        return False
    check_file(Path(place))
    try:
        names = pq.read_schema(place).names
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{place} cannot be read as Parquet: {error}") from error
    return all(name in names for name in MANIFEST_COLUMNS)


def _read_manifest(path: Path) -> pa.Table:
    """A manifest with any of the columns of one, at least an id and a file for each row."""
    try:
        table = pq.read_table(path, columns=None)
        columns = []
        for field in SCHEMA:
            if field.name in table.column_names:
                columns.append(table[field.name].cast(field.type))
            else:
                columns.append(pa.nulls(len(table), field.type))
        manifest = pa.table(columns, schema=SCHEMA)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is no manifest: {error}") from error
    rows = manifest.to_pylist()
    if not rows:
        raise UserError(f"{path} has no videos in it; write a row for each")
    problems = []
    ids = Counter(row["video_id"] for row in rows)
    for number, row in enumerate(rows, start=1):
        row["captions"] = [text for text in row["captions"] or [] if text]
        row["split"], row["uri"] = row["split"] or "", row["uri"] or ""
        problems += [f"row {number}: {why}" for why in _row_problems(row, path.parent, ids)]
    if problems:
        raise problems_error(str(path), problems, "correct the manifest, then run again")
    for row in rows:
        if not is_uri(row["uri"]):
            row["uri"] = os.path.realpath(path.parent / row["uri"])
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _row_problems(row: dict[str, Any], folder: Path, ids: Counter[str]) -> Iterator[str]:
    if why := id_problem(row["video_id"] or ""):
        yield f"video_id {why}"
    elif ids[row["video_id"]] > 1:
        yield f"{named(row['video_id'])} is there more than once"
    uri = row["uri"]
    if not is_uri(uri):
        why = id_problem(uri) or file_problem(Path(os.path.realpath(folder / uri)))
        if why:
            yield f"the file {named(uri)} {why}"
    if why := _segment_problem(row["start_s"], row["end_s"]):
        yield why


def _segment_problem(start_s: float | None, end_s: float | None) -> str | None:
    for name, seconds in (("start_s", start_s), ("end_s", end_s)):
        if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
            return f"{name} is {seconds:g}, not a time in seconds"
    if end_s is not None and (start_s or 0.0) >= end_s:
        return f"start_s {start_s or 0.0:g} is not before end_s {end_s:g}"
    return None


def of_split(videos: pa.Table, split: str) -> pa.Table:
    """The videos of a split; all if it is empty. Raises UserError if there are none."""
    if not split:
        return videos
    chosen = videos.filter(pc.equal(videos["split"], split))
    if not len(chosen):
        there = ", ".join(sorted(set(videos["split"].to_pylist()) - {""})) or "no split at all"
        raise UserError(f"split {split!r} has no videos, and the data has {there}")
    return chosen
