"""Which file anyone's caption file means by a video: a path, with an extension or not, or an id."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from xpool_platform.data.plain_text import named
from xpool_platform.data.video_files import file_problem, files_below


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


def _without_extension(root: Path, video: str, files: dict[str, list[Path]]) -> list[str]:
    found = files.get(os.path.basename(video), [])
    if os.path.dirname(video):
        folder = os.path.realpath(root / os.path.dirname(video))
        found = [path for path in found if os.path.realpath(path.parent) == folder]
    return sorted(os.path.realpath(path) for path in found)
