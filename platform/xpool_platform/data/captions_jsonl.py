"""Captions from JSON lines: an object on each line, whose `caption` may be a list."""

from json import JSONDecodeError
from pathlib import Path

from xpool_platform.data.caption_rows import CaptionRow, caption_row
from xpool_platform.data.plain_text import kind_of
from xpool_platform.data.strict_json import parse_json
from xpool_platform.data.text_files import open_text


def read_jsonl(path: Path) -> list[CaptionRow]:
    """The rows in order, those that are wrong included. Raises UserError as open_text does."""
    with open_text(path) as file:
        lines = enumerate(file, start=1)
        return [_row(f"line {number}", line) for number, line in lines if line.strip()]


def _row(where: str, line: str) -> CaptionRow:
    try:
        values = parse_json(line)
    except JSONDecodeError as error:
        problem = f"not JSON: {error.msg} at character {error.pos + 1}"
        return CaptionRow(where=where, problems=(problem,))
    except ValueError as error:
        return CaptionRow(where=where, problems=(f"not JSON to be read: {error}",))
    if not isinstance(values, dict):
        return CaptionRow(where=where, problems=(f"{kind_of(values)}, not an object",))
    return caption_row(where, values)
