"""What a training logged, against its steps."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xpool_platform.report import DIRECTIONS
from xpool_platform.tracking.figures.canvas import WIDTH_IN, tidy
from xpool_platform.tracking.figures.colours import BLACK, BLUE, DIRECTION, SKY_BLUE

History = Mapping[str, Sequence[tuple[int, float]]]
"""Metric to (step, value)."""

Curve = tuple[np.ndarray, np.ndarray]
"""Steps and values."""

PANELS = {
    "train/loss": ("loss", "nats"),
    "train/lr_clip": ("CLIP towers", "learning rate"),
    "train/lr_pooling": ("pooling", "learning rate"),
    "train/grad_norm": ("gradient norm", "before clipping"),
    "train/logit_scale": ("logit scale", "1 / temperature"),
}
"""Title and unit of each metric that has a panel."""

SPLITS = ("train", "val", "test")
BEST = "best/step"
MIN_TO_SMOOTH, MAX_MARKERS = 60, 25
MARKERS = {"t2v": "o", "v2t": "s"}


def training_curves_figure(history: History) -> Figure | None:
    """A panel for each thing that was logged, over the same steps; None if none was.

    What was logged twice for a step counts as it was logged last. A metric of many steps has its
    moving average over it, and the step of the chosen checkpoint is marked where it is known.
    """
    curves = {key: _curve(points) for key, points in history.items() if points}
    panels = [key for key in PANELS if key in curves]
    splits = _evaluated_splits(curves)
    count = len(panels) + len(splits)
    if not count:
        return None
    num_rows = -(-count // 3)
    figure = Figure(figsize=(WIDTH_IN, 0.6 + 2.1 * num_rows), layout="constrained")
    figure.suptitle("Training", fontsize=11, fontweight="bold")
    grid = figure.subplots(num_rows, min(3, count), squeeze=False, sharex=True)
    places = list(grid.ravel())
    for axes, split in zip(places, splits, strict=False):
        _draw_recalls(axes, curves, split)
    for axes, key in zip(places[len(splits) :], panels, strict=False):
        _draw_metric(axes, *curves[key])
        title, unit = PANELS[key]
        axes.set_title(title, fontsize=9)
        axes.set_ylabel(unit, fontsize=8)
    for i, axes in enumerate(places):
        if i >= count:
            axes.set_axis_off()
            continue
        if BEST in curves:
            label = "best checkpoint" if i == 0 else None
            axes.axvline(curves[BEST][1][-1], color=BLACK, linestyle=":", label=label)
        if i + grid.shape[1] >= count:
            axes.set_xlabel("step", fontsize=8)
            axes.tick_params(labelbottom=True)
        tidy(axes)
        axes.tick_params(labelsize=7)
        axes.yaxis.get_offset_text().set_fontsize(7)
        if len(axes.get_legend_handles_labels()[0]) > 1:
            axes.legend(fontsize=7)
    return figure


def _evaluated_splits(curves: Mapping[str, Curve]) -> list[str]:
    """Those evaluated during the training, or where there are none those at its end."""
    there = {split: curves.get(f"{split}/t2v/R1", ((), ()))[0] for split in SPLITS}
    often = [split for split, steps in there.items() if len(steps) > 1]
    return often or [split for split, steps in there.items() if len(steps)]


def _curve(points: Sequence[tuple[int, float]]) -> Curve:
    last = dict(points)
    steps = sorted(last)
    return np.array(steps), np.array([last[step] for step in steps], float)


def _draw_metric(axes: Axes, steps: np.ndarray, values: np.ndarray) -> None:
    smooth = len(values) >= MIN_TO_SMOOTH
    width = max(3, len(values) // 30)
    mean = np.convolve(values, np.full(width, 1 / width), mode="valid")
    rough = smooth and bool(np.abs(np.diff(values)).sum() > 3 * np.abs(np.diff(mean)).sum())
    axes.plot(
        steps,
        values,
        color=SKY_BLUE if rough else BLUE,
        linewidth=0.6 if rough else 1.3,
        alpha=0.6 if rough else 1.0,
        marker="" if len(values) > 1 else "o",
        label="each step" if rough else None,
    )
    if values.min() > 0 and values.max() > 10 * np.median(values):
        axes.set_yscale("log")
    if rough:
        middle = steps[(width - 1) // 2 : (width - 1) // 2 + len(mean)]
        axes.plot(middle, mean, color=BLUE, linewidth=1.5, label=f"mean of {width} steps")


def _draw_recalls(axes: Axes, curves: Mapping[str, Curve], split: str) -> None:
    for direction, colour in DIRECTION.items():
        key = f"{split}/{direction}/R1"
        if key not in curves:
            continue
        steps, values = curves[key]
        axes.plot(
            steps,
            values,
            color=colour,
            marker=MARKERS[direction] if len(steps) <= MAX_MARKERS else "",
            markersize=3.5,
            label=DIRECTIONS[direction],
        )
        if f"{key}_low" in curves and f"{key}_high" in curves:
            (low_steps, low), (high_steps, high) = curves[f"{key}_low"], curves[f"{key}_high"]
            if np.array_equal(low_steps, steps) and np.array_equal(high_steps, steps):
                if len(steps) == 1:
                    axes.vlines(steps, low, high, color=colour, linewidth=1)
                axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.set_title(f"R@1 on {split}", fontsize=9)
    axes.set_ylabel("% of the queries", fontsize=8)
    axes.set_ylim(bottom=0)
