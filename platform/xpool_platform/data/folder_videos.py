"""Which file anyone's caption file means by a video: a path, with an extension or not, or an id."""

import os
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from xpool_platform.data.plain_text import named
from xpool_platform.data.video_files import (
    VIDEO_SUFFIXES,
    VideoFile,
    file_problem,
    files_below,
    objects_below,
)


@dataclass(frozen=True, slots=True)
class FoundVideo:
    """The file of a video, or why there is none."""

    path: str
    """With links followed; of what has a problem, the name that it goes by."""

    problem: str | None = None


def find_videos(root: Path, videos: Iterable[str]) -> dict[str, FoundVideo]:
    """The file of each video, which lies in the folder even if links are followed.

    `root` has no links in it. A name without a folder and an extension is looked for in all
    folders below.
    """

    @cache
    def files() -> dict[str, list[Path]]:
        return files_below(root)

    def find(video: str) -> FoundVideo:
        exact = os.path.realpath(root / video)
        if not Path(exact).is_relative_to(root):
            return FoundVideo(video, f"{video} lies outside the folder")
        candidates = [exact]
        if not os.path.isfile(exact):
            candidates = _without_extension(root, video, files())
        if len(candidates) > 1:
            names = " and ".join(named(os.path.relpath(path, root)) for path in candidates)
            return FoundVideo(video, f"{video} has {len(candidates)} video files: {names}")
        if not candidates:
            other = os.path.lexists(exact) and "no regular file"
            return FoundVideo(video, f"{video} is {other or 'not there'}")
        path = candidates[0]
        if not Path(path).is_relative_to(root):
            return FoundVideo(video, f"{video} lies outside the folder")
        problem = file_problem(Path(path))
        return FoundVideo(path, f"{video} {problem}" if problem else None)

    return {video: find(video) for video in dict.fromkeys(videos)}


def find_objects(root: str, videos: Iterable[str]) -> dict[str, FoundVideo]:
    """The same below the URI of an object store, where there are no links."""
    objects = {file.name: file for file in objects_below(root)}
    by_stem: dict[str, list[VideoFile]] = {}
    for file in objects.values():
        stem, suffix = posixpath.splitext(posixpath.basename(file.name))
        if suffix.lower() in VIDEO_SUFFIXES:
            by_stem.setdefault(stem, []).append(file)

    def find(video: str) -> FoundVideo:
        name = posixpath.normpath(video)
        if name.startswith(("/", "..")):
            return FoundVideo(video, f"{video} lies outside the folder")
        found = [objects[name]] if name in objects else by_stem.get(posixpath.basename(name), [])
        if name not in objects and posixpath.dirname(name):
            beside = posixpath.dirname(name)
            found = [file for file in found if posixpath.dirname(file.name) == beside]
        if len(found) != 1:
            names = " and ".join(named(file.name) for file in found)
            many = f"{video} has {len(found)} video files: {names}"
            return FoundVideo(video, many if found else f"{video} is not there")
        problem = found[0].problem()
        return FoundVideo(found[0].location, f"{video} {problem}" if problem else None)

    return {video: find(video) for video in dict.fromkeys(videos)}


def _without_extension(root: Path, video: str, files: dict[str, list[Path]]) -> list[str]:
    found = files.get(os.path.basename(video), [])
    if os.path.dirname(video):
        folder = os.path.realpath(root / os.path.dirname(video))
        found = [path for path in found if os.path.realpath(path.parent) == folder]
    return sorted(os.path.realpath(path) for path in found)
