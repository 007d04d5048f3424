"""Which frames captions attend to: captions of many videos, and several captions of one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xpool_platform.tracking.figures.canvas import WIDTH_IN, axes_at, tidy, write
from xpool_platform.tracking.figures.colours import ATTENTION, MEAN_POOLING
from xpool_platform.tracking.figures.shown_text import quoted, wrapped
from xpool_platform.tracking.figures.strips import draw_strip

LEFT_IN, RIGHT_IN, BARS_IN, LINE_IN = 0.65, 0.15, 0.5, 0.17
MAX_STRIP_FRAMES = 16
"""Of more frames than these, so many at even distances are shown above the bars of all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionAttention:
    """What one caption attends to in a video."""

    caption: str
    frames: UInt8[np.ndarray, "num_frames height width 3"]
    weights: Float[np.ndarray, " num_frames"]
    """The share of each frame; their sum is 1."""


def attention_figure(rows: Sequence[CaptionAttention]) -> Figure:
    """Under each frame of a video the weight that the caption gives it (the paper's Figure 1)."""
    texts = [quoted(row.caption) for row in rows]
    heights = [_strip_height(row.frames) for row in rows]
    text_heights = [_text_height(text) for text in texts]
    figure = _new_figure(sum(text_heights) + sum(heights) + (BARS_IN + 0.18) * len(rows))
    _head(figure, "Attention of captions over the frames of their own videos")
    top = 0.55
    for row, text, height, text_height in zip(rows, texts, heights, text_heights, strict=True):
        write(figure, text, left=LEFT_IN, top=top)
        top += text_height
        _draw_frames(figure, row.frames, top, height)
        top += height
        axes = _draw_bars(figure, row.weights, top, float(row.weights.max()))
        top += BARS_IN + 0.18
    _finish(axes)
    return figure


def moved_attention_figure(rows: Sequence[CaptionAttention], whose: str) -> Figure:
    """One video, whose frames all rows share, and below it the weights by each caption.

    `whose` says in a line which video and captions these are.
    """
    texts = [quoted(row.caption) for row in rows]
    text_heights = [_text_height(text) for text in texts]
    frames = rows[0].frames
    height = _strip_height(frames)
    figure = _new_figure(height + sum(text_heights) + (BARS_IN + 0.12) * len(rows) + 0.3)
    _head(figure, "How the caption moves the attention over one video")
    write(figure, wrapped(whose, max_lines=1), left=LEFT_IN, top=0.52)
    _draw_frames(figure, frames, 0.75, height)
    top = 0.75 + height + 0.1
    tallest = max(float(row.weights.max()) for row in rows)
    for row, text, text_height in zip(rows, texts, text_heights, strict=True):
        write(figure, text, left=LEFT_IN, top=top)
        top += text_height
        axes = _draw_bars(figure, row.weights, top, tallest)
        top += BARS_IN + 0.12
    _finish(axes)
    return figure


def _new_figure(height_in: float) -> Figure:
    return Figure(figsize=(WIDTH_IN, height_in + 0.55 + 0.45))


def _head(figure: Figure, title: str) -> None:
    write(figure, title, left=LEFT_IN, top=0.08, size=11, fontweight="bold")
    key = (("■", ATTENTION, "weight of the frame"), ("╌╌", MEAN_POOLING, "mean pooling"))
    left = LEFT_IN
    for mark, colour, meaning in key:
        write(figure, mark, left=left, top=0.31, color=colour)
        write(figure, meaning, left=left + 0.24, top=0.31)
        left += 1.7


def _text_height(text: str) -> float:
    return LINE_IN * (text.count("\n") + 1) + 0.04


def _strip_height(frames: np.ndarray) -> float:
    """Inches, as the frames' shape wants them; of upright frames less."""
    shown = min(len(frames), MAX_STRIP_FRAMES)
    cell = (WIDTH_IN - LEFT_IN - RIGHT_IN) / shown
    return min(cell * frames.shape[1] / frames.shape[2], max(1.2 * cell, 0.6), 2.0)


def _draw_frames(figure: Figure, frames: np.ndarray, top: float, height: float) -> None:
    shown = min(len(frames), MAX_STRIP_FRAMES)
    chosen = (np.arange(shown) + 0.5) * len(frames) / shown
    width = WIDTH_IN - LEFT_IN - RIGHT_IN
    axes = axes_at(figure, left=LEFT_IN, top=top, width=width, height=height)
    draw_strip(axes, frames[chosen.astype(int)], (0.5, len(frames) + 0.5, 0, 1))


def _draw_bars(figure: Figure, weights: np.ndarray, top: float, tallest: float) -> Axes:
    num_frames = len(weights)
    width = WIDTH_IN - LEFT_IN - RIGHT_IN
    axes = axes_at(figure, left=LEFT_IN, top=top + 0.04, width=width, height=BARS_IN)
    axes.bar(range(1, num_frames + 1), weights, color=ATTENTION, width=0.6)
    axes.axhline(1 / num_frames, color=MEAN_POOLING, linestyle="--", linewidth=1)
    tidy(axes)
    axes.set(xlim=(0.5, num_frames + 0.5), ylim=(0, 1.08 * max(tallest, 2 / num_frames)), xticks=[])
    axes.locator_params(axis="y", nbins=2)
    axes.set_ylabel("weight", fontsize=8)
    return axes


def _finish(last: Axes) -> None:
    num_frames = round(last.get_xlim()[1] - 0.5)
    step = max(1, -(-num_frames // MAX_STRIP_FRAMES))
    last.set_xticks(range(1, num_frames + 1, step))
    last.set_xlabel("frame that the model sees, in order of time", fontsize=8)
