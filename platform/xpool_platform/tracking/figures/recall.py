"""Recall against K."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xpool.bootstrap import Recalls
from xpool_platform.report import DIRECTIONS
from xpool_platform.tracking.figures.canvas import WIDTH_IN, tidy
from xpool_platform.tracking.figures.colours import CHANCE, DIRECTION, MEAN_POOLING


def recall_figure(
    curves: Mapping[str, Recalls],
    num_videos: int,
    *,
    pooling: str,
    baseline: Mapping[str, Recalls] | None = None,
) -> Figure:
    """R@K of both directions, each with the band of its intervals and chance.

    `baseline` are the curves of mean pooling over the same embeddings, None where that is the
    model's own pooling.
    """
    figure = Figure(figsize=(WIDTH_IN, 3.9), layout="constrained")
    figure.suptitle(f"Recall at K among {num_videos:,} videos", fontsize=11, fontweight="bold")
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    for axes, (direction, curve) in zip(panels, curves.items(), strict=True):
        label = f"{pooling}, with 95 % interval"
        _draw(axes, curve, colour=DIRECTION[direction], label=label, linestyle="-", marker="o")
        if baseline is not None:
            _draw(
                axes,
                baseline[direction],
                colour=MEAN_POOLING,
                label="mean pooling of the same embeddings",
                linestyle="--",
                marker="s",
            )
        places = np.arange(1, len(curve.values) + 1)
        axes.plot(
            places, 100 * places / num_videos, color=CHANCE, linewidth=1, linestyle=":",
            label="chance",
        )  # fmt: skip
        axes.set_title(DIRECTIONS[direction], fontsize=10)
        axes.set_xlabel("K, places looked at", fontsize=9)
        axes.set_xticks(_ticks(len(places)))
        axes.set_xlim(min(0.5, len(places) / 20), len(places) + 0.5)
        tidy(axes, grid="both")
        axes.legend(fontsize=8, loc="lower right", framealpha=0.9)
    panels[0].set_ylim(0, 102)
    panels[0].set_ylabel("R@K, % of the queries", fontsize=9)
    return figure


def _draw(
    axes: Axes, curve: Recalls, *, colour: str, label: str, linestyle: str, marker: str
) -> None:
    places = np.arange(1, len(curve.values) + 1)
    axes.fill_between(places, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(
        places,
        curve.values,
        color=colour,
        label=label,
        linestyle=linestyle,
        marker=marker,
        markersize=3.5,
        markevery=[k - 1 for k in (1, 5, 10, 50) if k <= len(places)],
    )


def _ticks(max_k: int) -> list[int]:
    if max_k <= 12:
        return list(range(1, max_k + 1))
    return [1, 5, *range(10, max_k + 1, 10)]
