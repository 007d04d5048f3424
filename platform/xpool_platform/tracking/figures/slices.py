"""R@1 by slices of the queries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xpool.bootstrap import Recalls
from xpool_platform.report import DIRECTIONS
from xpool_platform.tracking.figures.canvas import WIDTH_IN, tidy
from xpool_platform.tracking.figures.colours import DIRECTION

MARKERS = {"t2v": "o", "v2t": "s"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Slicing:
    """One way to slice the queries, and R@1 of each slice."""

    subject: str
    """By what, with its unit, such as `caption length in words`."""

    labels: Sequence[str]
    """The range of each slice."""

    recalls: Mapping[str, Recalls]
    """By direction."""

    counts: Mapping[str, Sequence[int]]
    """The number of queries in each slice, by direction."""


def slices_figure(slicings: Sequence[Slicing], overall: Mapping[str, float]) -> Figure:
    """R@1 of each slice with its interval, and a line at that of all queries of a direction."""
    rows = [len(each.labels) for each in slicings]
    figure = Figure(figsize=(WIDTH_IN, 1.2 + 0.55 * len(rows) + 0.34 * sum(rows)))
    figure.set_layout_engine("constrained")
    figure.suptitle("R@1 by slices of the queries", fontsize=11, fontweight="bold")
    panels = figure.subplots(
        len(rows), 1, sharex=True, squeeze=False, height_ratios=[0.35 + each for each in rows]
    )[:, 0]
    for axes, slicing in zip(panels, slicings, strict=True):
        _draw(axes, slicing, overall)
    highest = max(
        float(np.nanmax(recalls.high, initial=0))
        for slicing in slicings
        for recalls in slicing.recalls.values()
    )
    panels[-1].set_xlim(0, min(103, max(5.0, 1.08 * highest)))
    panels[-1].set_xlabel(
        "R@1, % of the slice's queries, with 95 % intervals over videos", fontsize=9
    )
    handles: dict[str, Artist] = {}
    for axes in panels:
        found, labels = axes.get_legend_handles_labels()
        handles |= dict(zip(labels, found, strict=True))
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=len(handles),
        fontsize=8,
        frameon=False,
    )
    return figure


def _draw(axes: Axes, slicing: Slicing, overall: Mapping[str, float]) -> None:
    num = len(slicing.labels)
    places = np.arange(num)
    directions = list(slicing.recalls)
    for i, direction in enumerate(directions):
        recalls, colour = slicing.recalls[direction], DIRECTION[direction]
        ends = np.stack([recalls.values - recalls.low, recalls.high - recalls.values])
        axes.errorbar(
            recalls.values,
            places + (i - (len(directions) - 1) / 2) * 0.3,
            xerr=np.maximum(ends, 0),
            fmt=MARKERS[direction],
            color=colour,
            capsize=2,
            markersize=5,
            label=DIRECTIONS[direction],
        )
        axes.axvline(
            overall[direction],
            color=colour,
            linestyle=":",
            linewidth=1,
            label=f"{DIRECTIONS[direction]}, all queries",
        )
    axes.set_yticks(places, [_label(slicing, i) for i in range(num)])
    axes.set_ylim(num - 0.5, -0.5)
    whole = f": all alike, {slicing.labels[0]}, so there is one slice"
    title = f"by {slicing.subject}" + (whole if num == 1 else "")
    axes.set_title(title, fontsize=10, loc="left")
    tidy(axes, grid="x")


def _label(slicing: Slicing, i: int) -> str:
    kinds = {"t2v": "caption", "v2t": "video"}
    sizes = [
        f"{counts[i]:,} {kinds[direction]}{'s' if counts[i] != 1 else ''}"
        for direction, counts in slicing.counts.items()
    ]
    return f"{slicing.labels[i]}\n{', '.join(sizes)}"
