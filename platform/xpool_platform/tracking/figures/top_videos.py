"""Queries with the videos that they find first."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from xpool_platform.tracking.figures.canvas import WIDTH_IN, axes_at, write
from xpool_platform.tracking.figures.colours import TRUTH
from xpool_platform.tracking.figures.shown_text import quoted
from xpool_platform.tracking.figures.strips import draw_strip

STRIPS_PER_ROW = 3
MARGIN_IN, GAP_IN, LABEL_IN, LINE_IN = 0.15, 0.2, 0.26, 0.17


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundVideo:
    """A video at its place in the order of a query."""

    frames: UInt8[np.ndarray, "num_frames height width 3"]
    place: int
    score: float
    is_truth: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownQuery:
    """A caption and what it finds."""

    kind: str
    """Why it is shown, such as `best`."""

    caption: str
    rank: int
    found: Sequence[FoundVideo]
    """By place; the truth is among them."""


def top_videos_figure(queries: Sequence[ShownQuery], num_videos: int) -> Figure:
    """For each query a strip of frames of each video that it finds, the truth outlined."""
    width = (WIDTH_IN - 2 * MARGIN_IN - (STRIPS_PER_ROW - 1) * GAP_IN) / STRIPS_PER_ROW
    num_frames = len(queries[0].found[0].frames)
    height = _shape(queries) * width / num_frames
    titles = [quoted(query.caption, line_chars=110) for query in queries]
    tops, down = [], 0.55
    for query, title in zip(queries, titles, strict=True):
        tops.append(down)
        rows = -(-len(query.found) // STRIPS_PER_ROW)
        down += LINE_IN * (title.count("\n") + 2) + rows * (height + LABEL_IN) + 0.3
    figure = Figure(figsize=(WIDTH_IN, down - 0.15))
    write(
        figure,
        "Captions and the videos that they find first",
        left=MARGIN_IN,
        top=0.08,
        size=11,
        fontweight="bold",
    )
    write(figure, "▬", left=MARGIN_IN, top=0.31, color=TRUTH)
    write(figure, "✓ truth: the caption's own video", left=MARGIN_IN + 0.2, top=0.31)
    for query, title, top in zip(queries, titles, tops, strict=True):
        head = f"{query.kind}: rank {query.rank:,} of {num_videos:,}"
        write(figure, head, left=MARGIN_IN, top=top, fontweight="bold")
        write(figure, title, left=MARGIN_IN, top=top + LINE_IN)
        below = top + LINE_IN * (title.count("\n") + 2) + 0.08
        for i, video in enumerate(query.found):
            row, column = divmod(i, STRIPS_PER_ROW)
            _draw_video(
                figure,
                video,
                left=MARGIN_IN + column * (width + GAP_IN),
                top=below + row * (height + LABEL_IN),
                width=width,
                height=height,
            )
    return figure


def _shape(queries: Sequence[ShownQuery]) -> float:
    """Height by width of what most frames have, between wide and slightly upright."""
    shapes = [video.frames.shape[1:3] for query in queries for video in query.found]
    return float(np.clip(np.median([height / width for height, width in shapes]), 0.5, 1.2))


def _draw_video(
    figure: Figure, video: FoundVideo, *, left: float, top: float, width: float, height: float
) -> None:
    axes = axes_at(figure, left=left, top=top, width=width, height=height)
    draw_strip(axes, video.frames, (0, 1, 0, 1))
    label = f"{video.place:,}.  score {video.score:.3f}"
    if video.is_truth:
        outline = Rectangle(
            (0, 0), 1, 1, fill=False, edgecolor=TRUTH, linewidth=4, clip_on=False, gid="truth"
        )
        axes.add_patch(outline)
        label += "   ✓ truth"
    axes.set_gid(f"place {video.place}")
    weight = "bold" if video.is_truth else "normal"
    colour = TRUTH if video.is_truth else "black"
    write(
        figure,
        label,
        left=left,
        top=top + height + 0.05,
        size=8,
        fontweight=weight,
        color=colour,
    )
