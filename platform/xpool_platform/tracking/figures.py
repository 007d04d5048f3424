"""Figures of a run, in colours that survive colour blindness."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure

BAR_COLOUR = "#0072B2"
UNIFORM_COLOUR = "#D55E00"


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionAttention:
    """What one caption attends to in its video."""

    caption: str
    frames: UInt8[np.ndarray, "num_frames height width 3"]
    weights: Float[np.ndarray, " num_frames"]
    """The share of each frame; their sum is 1."""


def attention_figure(rows: Sequence[CaptionAttention]) -> Figure:
    """Under each frame of a video the weight that the caption gives it (the paper's Figure 1)."""
    num_frames = len(rows[0].frames)
    figure = Figure(figsize=(11, 1.8 * len(rows) + 0.4), layout="constrained")
    axes = figure.subplots(
        2 * len(rows), 1, squeeze=False, height_ratios=[1.0, 0.6] * len(rows), sharex=True
    )[:, 0]
    tallest = max(float(row.weights.max()) for row in rows)
    for i, row in enumerate(rows):
        strip, bars = axes[2 * i], axes[2 * i + 1]
        height, width = row.frames.shape[1:3]
        strip.imshow(
            np.concatenate(list(row.frames), axis=1),
            extent=(-0.5, num_frames - 0.5, 0, height / width),
            interpolation="nearest",
        )
        strip.set_axis_off()
        strip.set_title(f"“{row.caption}”", loc="left", fontsize=10)
        bars.bar(range(num_frames), row.weights, color=BAR_COLOUR, width=0.6, label="attention")
        bars.axhline(
            1 / num_frames, color=UNIFORM_COLOUR, linestyle="--", linewidth=1, label="mean pooling"
        )
        bars.set(xlim=(-0.5, num_frames - 0.5), ylim=(0, 1.05 * tallest), xticks=[])
        bars.set_ylabel("weight", fontsize=8)
        bars.tick_params(labelsize=8)
        bars.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure
