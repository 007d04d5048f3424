"""Which file has anyone's captions, and its rows."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from xpool_platform.data.caption_rows import CaptionRow
from xpool_platform.data.captions_csv import read_csv, read_tsv
from xpool_platform.data.captions_jsonl import read_jsonl
from xpool_platform.data.captions_parquet import read_parquet
from xpool_platform.data.captions_txt import read_txt
from xpool_platform.errors import UserError

READERS: dict[str, Callable[[Path], list[CaptionRow]]] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": read_jsonl,
    ".parquet": read_parquet,
}
NAMES = tuple(f"captions{suffix}" for suffix in READERS)


@dataclass(frozen=True, slots=True)
class Captions:
    """All captions, in their order."""

    source: str
    """The file, or the folder of the texts, for messages."""

    rows: list[CaptionRow]


def read_captions(root: Path, annotations: Path | None = None) -> Captions:
    """The captions of a folder of videos.

    `annotations` is a file, or a folder with one of NAMES. Without it, one of NAMES in `root` is
    read, and if there is none the texts beside the videos. Raises UserError if there is no file
    of captions, more than one, or one that cannot be read.
    """
    folder = root if annotations is None else annotations
    if os.path.isdir(folder):
        path = _file_in(folder)
        if path is None and annotations is None and (rows := read_txt(root)):
            return Captions(str(root), rows)
        if path is None:
            raise UserError(_nothing_in(folder, field="annotations" if annotations else "root"))
    elif not os.path.exists(folder):
        raise UserError(
            f"data.annotations {str(folder)!r} is not there; give a file of captions, or a folder "
            f"with {', '.join(NAMES[:-1])} or {NAMES[-1]}"
        )
    else:
        path = folder
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(
            f"data.annotations {str(path)!r} is none of {', '.join(READERS)}; give a file of one "
            "of these formats, or a folder with one"
        )
    rows = reader(path)
    if not rows:
        raise UserError(f"{path} has no captions in it; write one on each line")
    return Captions(str(path), rows)


def _file_in(folder: Path) -> Path | None:
    paths = [folder / name for name in NAMES if os.path.lexists(folder / name)]
    if len(paths) > 1:
        raise UserError(
            f"{folder} has {' and '.join(path.name for path in paths)}; leave one of them, or "
            f"give it as --data.annotations {paths[0]}"
        )
    return paths[0] if paths else None


def _nothing_in(folder: Path, field: str) -> str:
    return (
        f"data.{field} {str(folder)!r} has no {NAMES[0]}; write one there with a header line "
        "`video,caption` and a line for each caption, e.g. `dog.mp4,a dog catches a frisbee`; or "
        f"{', '.join(NAMES[1:])}" + ("; or dog.txt beside dog.mp4" if field == "root" else "")
    )
