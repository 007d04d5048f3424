"""One line of anyone's caption file, whatever its format: read, and checked by itself."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from xpool_platform.data.manifest import SPLITS
from xpool_platform.data.plain_text import caption_problem, id_problem, kind_of, shown

COLUMNS = ("video", "caption", "split", "start_s", "end_s", "video_id")
SECONDS = ("start_s", "end_s")


@dataclass(frozen=True, slots=True)
class CaptionRow:
    """Captions of a video, or of a segment of one."""

    where: str
    """The place in the file: `line 3`."""

    video: str = ""
    """As the file names it; empty if it does not."""

    captions: tuple[str, ...] = ()
    """Without space around them."""

    split: str = ""
    """Empty if the line has one that there is not."""

    start_s: float | None = None
    end_s: float | None = None

    video_id: str = ""
    """Empty if the line does not say which segment it is about."""

    problems: tuple[str, ...] = ()
    """What is wrong with the line by itself."""


def caption_row(where: str, values: Mapping[str, object]) -> CaptionRow:
    """The row of a line's values by column: texts, numbers of seconds, None where there is none.

    `caption` may be a list of texts.
    """
    found: list[str] = []
    video = _text(values, "video", found)
    if not video and not found:
        found.append("no video")
    elif video and (reason := id_problem(video)):
        found.append(f"video {shown(video)} {reason}")
        video = ""
    captions = _captions(values.get("caption"), video, found)
    split = _text(values, "split", found) or "train"
    if split not in SPLITS:
        found.append(f"split {shown(split)} is none of {', '.join(SPLITS)}")
        split = ""
    num_before = len(found)
    start_s, end_s = (_seconds(values, name, found) for name in SECONDS)
    if end_s is not None and (start_s or 0.0) >= end_s:
        found.append(f"start_s {start_s or 0.0:g} is not before end_s {end_s:g}")
    video_id = _text(values, "video_id", found) or _segment_id(video, start_s, end_s)
    if video_id and (reason := id_problem(video_id)):
        found.append(f"video_id {shown(video_id)} {reason}")
    return CaptionRow(
        where=where,
        video=video,
        captions=captions,
        split=split,
        start_s=start_s,
        end_s=end_s,
        video_id=video_id if len(found) == num_before else "",
        problems=tuple(found),
    )


def _text(values: Mapping[str, object], name: str, problems: list[str]) -> str:
    value = values.get(name)
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    problems.append(f"{name} is {kind_of(value)}, not a string")
    return ""


def _captions(value: object, video: str, problems: list[str]) -> tuple[str, ...]:
    of_video = f" for {video}" if video else ""
    captions = []
    for text in value if isinstance(value, list) else ["" if value is None else value]:
        if not isinstance(text, str):
            problems.append(f"caption is {kind_of(text)}, not a string")
        elif text.strip() and (reason := caption_problem(text.strip())):
            problems.append(f"the caption{of_video} {reason}")
        elif text.strip():
            captions.append(text.strip())
        else:
            problems.append(f"no caption{of_video}")
    if value == []:
        problems.append(f"no caption{of_video}")
    return tuple(captions)


def _seconds(values: Mapping[str, object], name: str, problems: list[str]) -> float | None:
    value = values.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        what = shown(value) if isinstance(value, str) else kind_of(value)
        problems.append(f"{name} is {what}, not a number of seconds")
        return None
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not (math.isfinite(seconds) and seconds >= 0):
        problems.append(f"{name} is {seconds:g}, not a time in seconds")
        return None
    return seconds


def _segment_id(video: str, start_s: float | None, end_s: float | None) -> str:
    if not video or (start_s is None and end_s is None):
        return video
    return f"{video}#{_short(start_s)}-{_short(end_s)}"


def _short(seconds: float | None) -> str:
    """Six digits unless that would be another time."""
    if seconds is None:
        return ""
    short = f"{seconds:g}"
    return short if float(short) == seconds else repr(seconds)
