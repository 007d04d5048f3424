"""Captions from CSV and TSV: a header with `video` and `caption`, then a line for each caption."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from xpool_platform.data.caption_rows import COLUMNS, SECONDS, CaptionRow, caption_row
from xpool_platform.data.plain_text import shown
from xpool_platform.data.text_files import open_text
from xpool_platform.errors import UserError

if TYPE_CHECKING:
    import _csv


def read_csv(path: Path, delimiter: str = ",") -> list[CaptionRow]:
    """The rows in order, those that are wrong included.

    Quotes are those of CSV in TSV, too, as Excel and pandas write them. Raises UserError for a
    file that cannot be read or does not have the columns.
    """
    with open_text(path, newline="") as file:
        return list(_rows(path, csv.reader(file, delimiter=delimiter, strict=True)))


def read_tsv(path: Path) -> list[CaptionRow]:
    """As read_csv, with tabs between the columns."""
    return read_csv(path, delimiter="\t")


def _rows(path: Path, reader: "_csv.Reader") -> Iterator[CaptionRow]:
    line = 1
    try:
        header = [name.strip() for name in next(reader, [])]
        check_columns(path, header)
        line = reader.line_num + 1
        for fields in reader:
            where, line = f"line {line}", reader.line_num + 1
            if fields:  # the line is not blank
                yield _row(where, header, fields)
    except csv.Error as error:
        reason = str(error).replace("'\t'", "a tab")
        yield CaptionRow(where=f"line {line}", problems=(f"not well-formed: {reason}",))


def check_columns(path: Path, header: list[str]) -> None:
    """Raise UserError unless `video` and `caption` are there and no column of ours is twice."""
    missing = [name for name in COLUMNS[:2] if name not in header]
    if missing:
        has = shown(", ".join(header)) if any(header) else "empty"
        raise UserError(
            f"{path} has no column {' and no column '.join(missing)}; its header is {has}, and "
            f"should have video and caption, and may have {', '.join(COLUMNS[2:])}"
        )
    for name in COLUMNS:
        if header.count(name) > 1:
            raise UserError(f"{path} has {header.count(name)} columns {name}; leave one of them")


def _row(where: str, header: list[str], fields: list[str]) -> CaptionRow:
    values: dict[str, object] = dict(zip(header, fields, strict=False))
    for name in SECONDS:
        values[name] = _number(str(values.get(name) or "").strip())
    row = caption_row(where, values)
    if any(field.strip() for field in fields[len(header) :]):
        # a caption with a comma: what follows it is in the wrong columns
        too_many = f"{len(fields)} columns, and the header has {len(header)}; is a quote missing?"
        return CaptionRow(where=where, video=row.video, problems=(too_many,))
    return row


def _number(text: str) -> float | str | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        return text
