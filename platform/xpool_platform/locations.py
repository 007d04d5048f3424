"""Places for files: a local path, a shared file system or an object store, all through pyarrow."""

import hashlib
import os
import re
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pyarrow as pa
from pyarrow import fs as pafs

from xpool_platform.errors import UserError

OBJECT_STORES = ("s3", "gcs", "abfs")
"""File systems that show an object only when it is whole, so that it needs no renaming."""

GCS_RETRY_S = 60
"""Google's client tries for a quarter of an hour else, also where there are no credentials."""

PART = ".part"
"""Ending of files that are being written."""


def is_uri(location: str) -> bool:
    """Whether a location names its file system, as `s3://bucket/folder` does."""
    return re.match(r"[a-z][a-z0-9+.-]*://", location) is not None


def absolute(location: str) -> str:
    """A path from this folder, `file://` and `~` resolved; another URI, or nothing, as it is.

    Raises UserError for a file of another host.
    """
    if location.startswith("file://"):
        parts = urlsplit(location)
        if parts.netloc not in ("", "localhost"):
            raise UserError(
                f"{location} names the host {parts.netloc!r}, and files of this machine have none: "
                "file:///folder"
            )
        return os.path.abspath(url2pathname(parts.path))
    if not location or is_uri(location):
        return location.rstrip("/")
    return str(Path(location).expanduser().absolute())


def filesystem_of(location: str) -> tuple[pafs.FileSystem, str]:
    """The file system of a location and the path on it. Raises UserError for an unknown one."""
    if not is_uri(location):
        return pafs.LocalFileSystem(), location
    scheme, rest = location.split("://", 1)
    bucket, _, folder = rest.partition("/")
    if scheme == "file":
        return pafs.LocalFileSystem(), f"/{folder}"
    filesystem, base = _of_bucket(f"{scheme}://{bucket}")
    return filesystem, f"{base}/{folder}" if folder else base


def write_whole(location: str, content: bytes | pa.Buffer) -> None:
    """Write a file so that it is there whole or not at all, whoever else writes it."""
    filesystem, path = filesystem_of(location)
    if filesystem.type_name in OBJECT_STORES:
        with filesystem.open_output_stream(path) as stream:
            stream.write(content)
        return
    parent = os.path.dirname(path)
    filesystem.create_dir(parent, recursive=True)
    temporary = f"{path}.{uuid.uuid4().hex}{PART}"
    try:
        with filesystem.open_output_stream(temporary) as stream:
            stream.write(content)
        filesystem.move(temporary, path)
    except BaseException:
        if filesystem.get_file_info(temporary).type != pafs.FileType.NotFound:
            filesystem.delete_file(temporary)
        raise


def read_whole(location: str) -> pa.Buffer:
    """The content of a file. Raises FileNotFoundError."""
    filesystem, path = filesystem_of(location)
    with filesystem.open_input_stream(path, compression=None) as stream:
        return stream.read_buffer()


def files_below(location: str) -> list[pafs.FileInfo]:
    """All files below a folder; none where it is not there."""
    filesystem, path = filesystem_of(location)
    selector = pafs.FileSelector(path, recursive=True, allow_not_found=True)
    return [info for info in filesystem.get_file_info(selector) if info.is_file]


@contextmanager
def readable(location: str) -> Iterator[None]:
    """Raise UserError where a place cannot be read; what is raised as such passes."""
    try:
        yield
    except OSError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{location} cannot be read ({reason}); give a place that can, and the credentials of "
            "an object store in the environment"
        ) from error


def is_file(location: str) -> bool:
    """Whether there is a file."""
    filesystem, path = filesystem_of(location)
    return bool(filesystem.get_file_info(path).is_file)


def identity(location: str) -> tuple[int, int]:
    """Size and modification time, in nanoseconds, of a file. Raises FileNotFoundError."""
    if not is_uri(location):
        status = os.stat(location)
        return status.st_size, status.st_mtime_ns
    filesystem, path = filesystem_of(location)
    info = filesystem.get_file_info(path)
    if not info.is_file:
        raise FileNotFoundError(f"{location} is not there")
    return info.size, info.mtime_ns


@contextmanager
def local_file(location: str) -> Iterator[str]:
    """The path of a file; one of an object store is copied for the time of the block.

    Raises OSError if it cannot be copied.
    """
    if not is_uri(location):
        yield location
        return
    filesystem, path = filesystem_of(location)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, f"file{Path(path).suffix[:20]}")  # a key may be longer than a name
        pafs.copy_files(path, str(copy), filesystem, pafs.LocalFileSystem())
        yield str(copy)


def kept_copy(location: str, folder: Path) -> Path:
    """The path of a file; one of an object store is copied into a folder, unless it is there."""
    if not is_uri(location):
        return Path(location)
    size, mtime_ns = identity(location)
    of_this = hashlib.blake2b(f"{location}\0{size}\0{mtime_ns}".encode(), digest_size=8)
    copy = folder / of_this.hexdigest() / location.rsplit("/", 1)[-1]
    if not copy.is_file():
        write_whole(str(copy), read_whole(location))
    return copy


def remove_folder(location: str) -> None:
    """Remove a folder with all that is in it, if it is there."""
    filesystem, path = filesystem_of(location)
    if filesystem.get_file_info(path).type != pafs.FileType.NotFound:
        filesystem.delete_dir(path)


def remove_file(location: str) -> None:
    """Remove a file. Raises FileNotFoundError."""
    filesystem, path = filesystem_of(location)
    filesystem.delete_file(path)


@cache
def _of_bucket(root: str) -> tuple[pafs.FileSystem, str]:
    options = f"?retry_limit_seconds={GCS_RETRY_S}" if root.startswith(("gs:", "gcs:")) else ""
    try:
        filesystem, base = pafs.FileSystem.from_uri(f"{root}{options}")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise UserError(f"{root} is no place that can be read or written: {error}") from error
    return filesystem, base
