"""The video files below a folder, and whether one of them can be a video at all."""

import os
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pyarrow import fs as pafs

from xpool_platform.data.plain_text import is_unicode
from xpool_platform.errors import UserError
from xpool_platform.locations import filesystem_of, is_uri, readable

VIDEO_SUFFIXES = frozenset(
    (
        *(".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov"),
        *(".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"),
    )
)


@dataclass(frozen=True, slots=True)
class VideoFile:
    """A file below the folder of the videos."""

    location: str
    """A path, or a URI."""

    name: str
    """Below the folder."""

    num_bytes: int | None = None
    """As an object store lists it; a local file is asked when it matters."""

    def real(self) -> str:
        """What is the same for all names of a file."""
        return self.location if is_uri(self.location) else os.path.realpath(self.location)

    def problem(self) -> str | None:
        """Why it can be no video, or None; it is not opened."""
        if is_uri(self.location):
            return None if self.num_bytes else "is empty, it has 0 bytes"
        return file_problem(Path(self.location))


def video_files(root: str) -> dict[str, list[VideoFile]]:
    """The video files below a folder, a path or a URI, by their name without the extension.

    Raises UserError for an object store that cannot be listed.
    """
    if not is_uri(root):
        return {
            stem: [VideoFile(str(path), os.path.relpath(path, root)) for path in paths]
            for stem, paths in files_below(Path(root)).items()
        }
    files: dict[str, list[VideoFile]] = {}
    for file in objects_below(root):
        stem, suffix = os.path.splitext(os.path.basename(file.name))
        if suffix.lower() in VIDEO_SUFFIXES:
            files.setdefault(stem, []).append(file)
    return files


def objects_below(root: str) -> list[VideoFile]:
    """All objects below a URI, in the order of their names.

    Raises UserError if there is none, or they cannot be listed.
    """
    filesystem, folder = filesystem_of(root)
    with readable(f"data.root {root}"):
        infos = filesystem.get_file_info(pafs.FileSelector(folder, recursive=True))
    files = [
        VideoFile(
            location=f"{root}/{info.path[len(folder) :].lstrip('/')}",
            name=info.path[len(folder) :].lstrip("/"),
            num_bytes=info.size,
        )
        for info in infos
        if info.is_file
    ]
    if not files:
        raise UserError(
            f"data.root {root!r} has no objects below it; give the folder of the videos"
        )
    return sorted(files, key=lambda file: file.name)


def files_below(root: Path, suffixes: Collection[str] = VIDEO_SUFFIXES) -> dict[str, list[Path]]:
    """The files below a folder by their name without the extension, links to folders followed.

    A file that is there under two names, by a link, is there once.
    """
    files: dict[str, list[Path]] = {}
    seen: set[str] = set()
    for folder, below, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link to a folder above
            below.clear()
            continue
        seen.add(real)
        below.sort()
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in suffixes:
                files.setdefault(stem, []).append(Path(folder, name))
    return {
        stem: paths if len(paths) == 1 else list({os.path.realpath(p): p for p in paths}.values())
        for stem, paths in files.items()
    }


def file_problem(path: Path) -> str | None:
    """Why a file can be no video, or None; it is not opened."""
    try:
        status = path.stat()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file"
    if not status.st_size:
        return "is empty, it has 0 bytes"
    if not is_unicode(str(path)):
        return "is in a folder whose name is not UTF-8"
    return None
