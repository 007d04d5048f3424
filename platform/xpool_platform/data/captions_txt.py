"""Captions from text files beside the videos: a/b.txt has those of a/b.mp4, one on each line."""

import os
from collections.abc import Iterator
from pathlib import Path

from xpool_platform.data.caption_rows import CaptionRow, caption_row
from xpool_platform.data.plain_text import named
from xpool_platform.data.text_files import open_text
from xpool_platform.data.video_files import files_below
from xpool_platform.errors import UserError


def read_txt(root: Path) -> list[CaptionRow]:
    """The rows of all videos below a folder, those that are wrong included.

    No rows if no text has a video's name. A text without a video, and a video without a text,
    is a problem otherwise.
    """
    texts, videos = _by_place(files_below(root, (".txt",))), _by_place(files_below(root))
    rows: list[CaptionRow] = []
    if texts.keys() & videos.keys():
        for place in sorted(texts.keys() | videos.keys()):
            rows += _rows(root, texts.get(place, []), videos.get(place, []))
    return rows


def _by_place(files: dict[str, list[Path]]) -> dict[Path, list[Path]]:
    """Files by their path without the extension; hidden ones are not anyone's videos."""
    places: dict[Path, list[Path]] = {}
    for path in (path for paths in files.values() for path in paths):
        if not path.name.startswith("."):
            places.setdefault(path.with_suffix(""), []).append(path)
    return places


def _rows(root: Path, texts: list[Path], videos: list[Path]) -> Iterator[CaptionRow]:
    if len(texts) == len(videos) == 1:
        yield from _captions(root, texts[0], str(videos[0].relative_to(root)))
        return
    for text in texts if not videos else []:
        yield _problem(root, text, "no video of this name is beside it")
    for video in videos if not texts else []:
        yield _problem(root, video, "no .txt of this name with captions is beside it")
    if texts and videos:
        names = " and ".join(named(path.name) for path in [*texts, *videos])
        yield _problem(root, texts[0], f"one text and one video belong together: {names}")


def _captions(root: Path, text: Path, video: str) -> Iterator[CaptionRow]:
    name = str(text.relative_to(root))
    if not Path(os.path.realpath(text)).is_relative_to(root):
        yield _problem(root, text, "it lies outside the folder")
        return
    lines = []
    try:
        with open_text(text) as file:
            lines = [(number, line) for number, line in enumerate(file, start=1) if line.strip()]
    except UserError as error:
        yield _problem(root, text, str(error))
        return
    if not lines:
        yield _problem(root, text, f"no caption for {named(video)}")
    for number, line in lines:
        yield caption_row(f"{named(name)}, line {number}", {"video": video, "caption": line})


def _problem(root: Path, file: Path, problem: str) -> CaptionRow:
    return CaptionRow(where=named(str(file.relative_to(root))), problems=(problem,))
