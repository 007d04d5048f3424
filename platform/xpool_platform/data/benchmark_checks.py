"""What is wrong with a benchmark's annotations and videos, all at once."""

from collections.abc import Collection, Iterator

from xpool_platform.data.benchmark_sets import AnnotatedVideo
from xpool_platform.data.plain_text import caption_problem, id_problem, named, shown
from xpool_platform.data.video_files import VideoFile

Files = dict[str, list[VideoFile]]
"""Video files by their name without the extension."""


def files_of(video: AnnotatedVideo, files: Files) -> list[VideoFile]:
    """The files of a video: one, unless something is wrong."""
    names = dict.fromkeys((video.video_id, video.other_name))
    return [file for name in names if name for file in files.get(name, [])]


def benchmark_problems(
    videos: list[AnnotatedVideo], files: Files, splits: Collection[str]
) -> list[str]:
    """All problems. Videos of other splits than `splits` need not be there."""
    problems = list(_listed_twice(videos))
    split_of_file: dict[str, AnnotatedVideo] = {}
    for video in videos:
        if reason := id_problem(video.video_id):
            problems.append(f"the id {shown(video.video_id)} ({video.split}) {reason}")
            continue
        problems += _of_captions(video)
        problems += _of_files(video, files_of(video, files), video.split in splits)
        for file in files_of(video, files)[:1]:
            first = split_of_file.setdefault(file.real(), video)
            if first.split != video.split and first.video_id != video.video_id:
                problems.append(
                    f"{first.video_id} ({first.split}) and {video.video_id} ({video.split}) are "
                    "one file in two splits"
                )
    return problems


def _listed_twice(videos: list[AnnotatedVideo]) -> Iterator[str]:
    splits: dict[str, list[str]] = {}
    for video in videos:
        splits.setdefault(video.video_id, []).append(video.split)
    for video_id, its in splits.items():
        if len(its) > 1:
            where = " and ".join(dict.fromkeys(its))
            yield f"{named(video_id)} is listed {len(its)} times, in {where}"


def _of_captions(video: AnnotatedVideo) -> Iterator[str]:
    """Two captions that are the same are usual in MSR-VTT and MSVD."""
    if not video.captions or not all(video.captions):
        yield f"{video.video_id} ({video.split}) has no caption, or an empty one"
    for caption in video.captions:
        if caption and (reason := caption_problem(caption)):
            yield f"a caption of {video.video_id} ({video.split}) {reason}"


def _of_files(video: AnnotatedVideo, found: list[VideoFile], needed: bool) -> Iterator[str]:
    where = [named(name) for name in sorted(file.name for file in found)]
    if not found and needed:
        yield f"{video.video_id} ({video.split}) has no video file"
    elif len(found) > 1:
        yield f"{video.video_id} has {len(found)} video files: {' and '.join(where)}"
    elif found and needed and (reason := found[0].problem()):
        yield f"{video.video_id} ({video.split}): {where[0]} {reason}"
