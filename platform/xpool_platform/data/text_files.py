"""Files of captions, opened within bounds; what cannot be read is a UserError that names it."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from xpool_platform.errors import UserError

MAX_BYTES = 2 * 2**30


def check_file(path: Path) -> None:
    """Raise UserError unless this is a regular file of at most MAX_BYTES."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise UserError(f"{path} is not there") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path} is no regular file, and only such are read")
    if status.st_size > MAX_BYTES:
        raise UserError(
            f"{path} has {status.st_size / 2**30:.1f} GiB, and a file of captions may have "
            f"{MAX_BYTES / 2**30:.0f}; leave out of it what is no caption"
        )


@contextmanager
def open_text(path: Path, newline: str | None = None) -> Iterator[TextIO]:
    """A file of UTF-8 text, with or without a byte order mark; `newline` as for `open`.

    Raises UserError, also while it is read: not a regular file, above MAX_BYTES, not UTF-8.
    """
    check_file(path)
    try:
        with path.open(encoding="utf-8-sig", newline=newline) as file:
            yield file
    except UnicodeDecodeError as error:
        line = _first_line_that_is_no_utf8(path)
        raise UserError(
            f"{path} is not UTF-8 text (line {line}: {error.reason}); save it as UTF-8"
        ) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise UserError(f"{path} does not fit into memory; leave captions out of it") from error


def _first_line_that_is_no_utf8(path: Path) -> int:
    with path.open("rb") as file:
        number = 0
        for number, line in enumerate(file, start=1):  # noqa: B007
            try:
                line.decode()
            except UnicodeDecodeError:
                break
    return number
