"""Anyone's own videos as a manifest, checked whole."""

import os
from pathlib import Path

import pyarrow as pa

from xpool_platform.data.annotation_copies import annotations_here
from xpool_platform.data.caption_files import Captions, read_captions
from xpool_platform.data.folder_checks import folder_problems
from xpool_platform.data.folder_videos import FoundVideo, find_objects, find_videos
from xpool_platform.data.manifest import SCHEMA
from xpool_platform.data.problems import problems_error
from xpool_platform.errors import UserError


def folder_manifest(root: Path, annotations: Path | None = None) -> pa.Table:
    """The manifest of a folder of videos; a row without a split is for training.

    `annotations` is the file of the captions or a folder with it; None: it is in `root`, or the
    captions are in texts beside the videos. Raises UserError that lists everything that is wrong:
    lines that cannot be read, videos that are missing, empty, doubled, outside the folder or in
    two splits, captions that are missing or doubled, unknown splits, times that are none.
    """
    if not os.path.isdir(root):
        raise UserError(f"data.root {str(root)!r} is not a folder; give the folder of your videos")
    root = Path(os.path.realpath(root))
    captions = read_captions(root, annotations)
    found = find_videos(root, (row.video for row in captions.rows if row.video))
    return _manifest(captions, found, str(root))


def object_manifest(root: str, annotations: str = "") -> pa.Table:
    """The manifest of videos below the URI of an object store.

    `annotations` is the place of the captions, `root` where it is empty; captions in texts beside
    the videos are not looked for. Raises UserError as `folder_manifest`.
    """
    with annotations_here(annotations or root) as here:
        captions = read_captions(here, here)
        found = find_objects(root, (row.video for row in captions.rows if row.video))
        return _manifest(captions, found, root)


def _manifest(captions: Captions, found: dict[str, FoundVideo], root: str) -> pa.Table:
    if problems := folder_problems(captions.rows, found):
        raise problems_error(
            f"{captions.source} does not fit the videos below {root}",
            problems,
            "correct the captions or add the videos, then run again",
        )
    rows: dict[str, dict[str, object]] = {}
    texts: dict[str, list[str]] = {}
    for row in captions.rows:
        texts.setdefault(row.video_id, []).extend(row.captions)
        rows.setdefault(
            row.video_id,
            {
                "video_id": row.video_id,
                "uri": found[row.video].path,
                "split": row.split,
                "captions": texts[row.video_id],
                "start_s": row.start_s,
                "end_s": row.end_s,
            },
        )
    return pa.Table.from_pylist(list(rows.values()), schema=SCHEMA)
