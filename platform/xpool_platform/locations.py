"""Places for files: a local path, a shared file system or an object store, all through pyarrow."""

import os
import re
import uuid
from functools import cache

import pyarrow as pa
from pyarrow import fs as pafs

from xpool_platform.errors import UserError

OBJECT_STORES = ("s3", "gcs", "abfs")
"""File systems that show an object only when it is whole, so that it needs no renaming."""

PART = ".part"
"""Ending of files that are being written."""


def is_uri(location: str) -> bool:
    """Whether a location names its file system, as `s3://bucket/folder` does."""
    return re.match(r"[a-z][a-z0-9+.-]*://", location) is not None


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
    try:
        filesystem, base = pafs.FileSystem.from_uri(root)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise UserError(f"{root} is no place that can be read or written: {error}") from error
    return filesystem, base
