"""Anyone's own videos: a folder with captions.csv, `video,caption[,split][,start_s,end_s]`."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from xpool_platform.errors import UserError

FILE_NAME = "captions.csv"
COLUMNS = ("video", "caption", "split", "start_s", "end_s")


@dataclass(frozen=True, slots=True)
class Caption:
    """One caption of one video or of a segment of it."""

    line: int
    video: str
    caption: str
    split: str
    start_s: float | None
    end_s: float | None


def read_captions(root: Path) -> list[Caption]:
    """The rows of root/captions.csv, in order.

    Raises UserError if the file is missing, not a CSV of these columns, or holds a number that is
    none; all bad lines are named at once.
    """
    path = root / FILE_NAME
    if not root.is_dir():
        raise UserError(f"data.root {str(root)!r} is not a folder; give the folder of your videos")
    if not path.is_file():
        raise UserError(
            f"data.root {str(root)!r} has no {FILE_NAME}; write one there with a header line "
            "`video,caption` and a line for each caption, e.g. `dog.mp4,a dog catches a frisbee`"
        )
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return _parse(path, csv.DictReader(file, strict=True))
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except csv.Error as error:
        raise UserError(f"{path} is not a well-formed CSV: {error}") from error


def _parse(path: Path, reader: csv.DictReader) -> list[Caption]:
    header = reader.fieldnames or []
    missing = [name for name in COLUMNS[:2] if name not in header]
    if missing:
        raise UserError(
            f"{path} has no column {' and no column '.join(missing)}; its header is "
            f"{','.join(header) or 'empty'}, and should be video,caption"
        )
    captions, bad = [], []
    for row in reader:
        values = {name: (row.get(name) or "").strip() for name in COLUMNS}
        try:
            start_s, end_s = _seconds(values["start_s"]), _seconds(values["end_s"])
            if start_s is not None and end_s is not None and start_s >= end_s:
                raise ValueError(f"start_s {start_s} is not before end_s {end_s}")
        except ValueError as error:
            bad.append(f"line {reader.line_num}: {error}")
            continue
        captions.append(
            Caption(
                line=reader.line_num,
                video=values["video"],
                caption=values["caption"],
                split=values["split"],
                start_s=start_s,
                end_s=end_s,
            )
        )
    if bad:
        raise UserError(f"{path} has bad numbers:\n  " + "\n  ".join(bad))
    if not captions:
        raise UserError(f"{path} has a header but no captions")
    return captions


def _seconds(text: str) -> float | None:
    if not text:
        return None
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{text!r} is not a time in seconds")
    return value
