"""Annotation files that lie in an object store, copied to where their readers find them."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyarrow import fs as pafs

from xpool_platform.data.text_files import MAX_BYTES
from xpool_platform.errors import UserError
from xpool_platform.locations import filesystem_of, is_uri, readable

SUFFIXES = (".csv", ".json", ".jsonl", ".parquet", ".tsv", ".txt")


@contextmanager
def annotations_here(location: str) -> Iterator[Path]:
    """The path of an annotation file or of a folder with some, for the time of the block.

    Of an object store it is a copy: of the file, or of all files directly in the folder that can be
    annotations. Raises UserError if there is none, or one is above MAX_BYTES; one that is raised
    in the block names the files as the user does.
    """
    if not is_uri(location):
        yield Path(location)
        return
    filesystem, path = filesystem_of(location)
    whole, infos = _annotations(location, filesystem, path)
    folder_of_them = location.rsplit("/", 1)[0] if whole else location
    with tempfile.TemporaryDirectory() as folder:
        with readable(location):
            for info in infos:
                copy = str(Path(folder, info.base_name))
                pafs.copy_files(info.path, copy, filesystem, pafs.LocalFileSystem())
        try:
            yield Path(folder, infos[0].base_name) if whole else Path(folder)
        except UserError as error:
            raise UserError(str(error).replace(folder, folder_of_them)) from error


def _annotations(
    location: str, filesystem: pafs.FileSystem, path: str
) -> tuple[bool, list[pafs.FileInfo]]:
    """Whether it is one file, and the files."""
    with readable(location):
        found = filesystem.get_file_info(path)
        infos = [found]
        if not found.is_file:
            infos = filesystem.get_file_info(pafs.FileSelector(path))
    infos = [info for info in infos if info.is_file and info.base_name.endswith(SUFFIXES)]
    if not infos:
        raise UserError(
            f"{location} has no annotation file ({', '.join(SUFFIXES)}); put captions.csv there, "
            "or give its place as --data.annotations"
        )
    for info in infos:
        if info.size > MAX_BYTES:
            raise UserError(
                f"{location}: {info.base_name} has {info.size / 2**30:.1f} GiB, and a file of "
                f"captions may have {MAX_BYTES / 2**30:.0f}"
            )
    return bool(found.is_file), infos
