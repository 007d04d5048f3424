"""What is wrong with the rows of anyone's caption file, among each other and with the videos."""

from collections.abc import Iterator

from xpool_platform.data.caption_rows import CaptionRow
from xpool_platform.data.folder_videos import FoundVideo

Found = dict[str, FoundVideo]
Problems = Iterator[tuple[int, str]]
"""Each with the index of its row."""


def folder_problems(rows: list[CaptionRow], found: Found) -> list[str]:
    """All problems in the order of the rows. `found` has the file of each row's video."""
    problems = [
        *((i, problem) for i, row in enumerate(rows) for problem in row.problems),
        *_files(rows, found),
        *_splits(rows, found),
        *_segments(rows, found),
        *_captions(rows),
    ]
    problems.sort(key=lambda problem: problem[0])
    return list(dict.fromkeys(f"{rows[i].where}: {problem}" for i, problem in problems))


def _files(rows: list[CaptionRow], found: Found) -> Problems:
    """Told at the first row of a video."""
    first = {row.video: i for i, row in reversed(list(enumerate(rows))) if row.video}
    for video, i in first.items():
        if problem := found[video].problem:
            yield i, problem


def _splits(rows: list[CaptionRow], found: Found) -> Problems:
    """A video file, all its segments and all its names are in one split."""
    of_file: dict[str, CaptionRow] = {}
    for i, row in enumerate(rows):
        if not (row.video and row.split):
            continue
        first = of_file.setdefault(found[row.video].path, row)
        if first.split != row.split:
            alias = "" if first.video == row.video else f" as {first.video}"
            there = f"{first.split} ({first.where}{alias})"
            yield i, f"{row.video} is in the splits {there} and {row.split}"


def _segments(rows: list[CaptionRow], found: Found) -> Problems:
    """An id has one segment of one file, and a segment has one id."""
    of_id: dict[str, tuple[CaptionRow, object]] = {}
    of_segment: dict[object, CaptionRow] = {}
    for i, row in enumerate(rows):
        if not (row.video and row.video_id):
            continue
        segment = (found[row.video].path, row.start_s or 0.0, row.end_s)
        first, its_segment = of_id.setdefault(row.video_id, (row, segment))
        if its_segment != segment:
            other = f"another video or segment in {first.where}"
            yield i, f"video_id {row.video_id} is {other}; give each its own"
            continue
        first = of_segment.setdefault(segment, row)
        if first.video_id != row.video_id:
            same = f"{row.video_id} is the same video or segment as {first.video_id}"
            yield i, f"{same} of {first.where}; name it alike in all rows"


def _captions(rows: list[CaptionRow]) -> Problems:
    seen: dict[tuple[str, str], str] = {}
    for i, row in enumerate(rows):
        for caption in row.captions if row.video_id else ():
            if (row.video_id, caption) in seen:
                yield i, f"the caption of {seen[row.video_id, caption]} again"
            else:
                seen[row.video_id, caption] = row.where
