"""A benchmark's annotation files as they were published; another format is a UserError."""

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from xpool_platform.data.plain_text import kind_of
from xpool_platform.data.strict_json import parse_json
from xpool_platform.data.text_files import open_text
from xpool_platform.errors import UserError

Kind = TypeVar("Kind", str, list, dict)


class FormatError(Exception):
    """Something is not where the format has it."""


def published_files(folder: Path, *names: str) -> list[Path]:
    """The paths of a benchmark's files. Raises UserError that names all that are missing."""
    paths = [folder / name for name in names]
    missing = [str(path) for path in paths if not os.path.lexists(path)]
    if missing:
        are = "are" if len(missing) > 1 else "is"
        raise UserError(
            f"{' and '.join(missing)} {are} not there; put the data set's annotation files into "
            "one folder and give it as --data.annotations, or as --data.root if the videos are "
            "below it, too"
        )
    return paths


@contextmanager
def published_format(path: Path) -> Iterator[None]:
    """A FormatError becomes a UserError that names the file."""
    try:
        yield
    except FormatError as error:
        raise UserError(
            f"{path} does not have its published format: {error}; take the file as it was published"
        ) from error


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises UserError for what is none."""
    try:
        with open_text(path) as file:
            return parse_json(file.read())
    except ValueError as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def read_columns(path: Path, *names: str) -> list[list[str]]:
    """The values of some columns of a CSV file, without space around them, line by line.

    Raises FormatError, or UserError for what is no CSV.
    """
    try:
        with open_text(path, newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            for name in names:
                if name not in header:
                    raise FormatError(f"there is no column {name}")
            columns = [header.index(name) for name in names]
            rows = []
            for row in reader:
                if row and len(row) != len(header):
                    raise FormatError(
                        f"line {reader.line_num} has {len(row)} columns and the header "
                        f"{len(header)}"
                    )
                if row:
                    rows.append([row[column].strip() for column in columns])
            return rows
    except csv.Error as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def of_kind(value: object, kind: type[Kind], what: str) -> Kind:
    """A value of JSON that has to be a `str`, `list` or `dict`. Raises FormatError naming it."""
    if not isinstance(value, kind):
        raise FormatError(f"{what} is {kind_of(value)}, not {kind_of(kind())}")
    return value


def field(entry: object, name: str, kind: type[Kind], what: str) -> Kind:
    """A named value of an object of JSON. Raises FormatError, in which `what` is the object."""
    values = of_kind(entry, dict, what)
    if name not in values:
        raise FormatError(f"{what} has no {name}")
    return of_kind(values[name], kind, f"{name} of {what}")


def texts(value: object, what: str) -> list[str]:
    """A list of strings, without space around them. Raises FormatError."""
    captions = of_kind(value, list, f"the captions of {what}")
    return [of_kind(caption, str, f"a caption of {what}").strip() for caption in captions]
