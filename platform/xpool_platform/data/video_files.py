"""The video files below a folder, and whether one of them can be a video at all."""

import os
import stat
from collections.abc import Collection
from pathlib import Path

from xpool_platform.data.plain_text import is_unicode

VIDEO_SUFFIXES = frozenset(
    (
        *(".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov"),
        *(".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"),
    )
)


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
