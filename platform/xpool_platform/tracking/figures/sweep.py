"""Figures of a sweep: what its trials found, and which fields decide it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from xpool_platform.tracking.figures.colours import BLUE

COLOURS = colormaps["viridis"]
MAX_TICKS = 8
"""Whole numbers that are named each, as those of a choice."""


class ScoredTrial(Protocol):
    """What the figures need of a trial."""

    @property
    def values(self) -> Mapping[str, Any]:
        """By field."""

    @property
    def evaluations(self) -> Sequence[Any]:
        """With `seconds` and `metrics`."""


def sweep_figures(
    scored: Sequence[tuple[ScoredTrial, float]],
    fields: Sequence[str],
    metric: str,
    importances: Mapping[str, float],
    *,
    intervals: Sequence[tuple[float, float]],
    less_is_better: bool = False,
) -> dict[str, Figure]:
    """By name: the metric against each field, parallel coordinates, importances, best so far.

    `intervals` are those of the scores, in their order.
    """
    figures = {
        "metric_by_field": _by_field(scored, fields, metric, intervals),
        "parallel_coordinates": _parallel(scored, fields, metric),
        "best_so_far": _best_so_far(scored, metric, less_is_better=less_is_better),
    }
    if importances:
        figures["importances"] = _importances(importances, metric)
    return figures


def _by_field(
    scored: Sequence[tuple[ScoredTrial, float]],
    fields: Sequence[str],
    metric: str,
    intervals: Sequence[tuple[float, float]],
) -> Figure:
    figure = Figure(figsize=(4 * len(fields), 3.6), layout="constrained")
    panels = figure.subplots(1, len(fields), squeeze=False, sharey=True)[0]
    for axes, field in zip(panels, fields, strict=True):
        places, labels = _places([trial.values[field] for trial, _ in scored])
        scores = np.array([score for _, score in scored])
        low, high = np.array(intervals).T
        ends = [np.maximum(scores - low, 0), np.maximum(high - scores, 0)]
        axes.errorbar(places, scores, yerr=ends, fmt="o", color=BLUE, elinewidth=0.8)
        axes.set_xlabel(field)
        _label(axes, labels, [trial.values[field] for trial, _ in scored])
    panels[0].set_ylabel(f"{metric}, 95 % intervals")
    return figure


def _parallel(
    scored: Sequence[tuple[ScoredTrial, float]], fields: Sequence[str], metric: str
) -> Figure:
    figure = Figure(figsize=(2.4 * (len(fields) + 1), 4), layout="constrained")
    axes = figure.subplots()
    scores = np.array([score for _, score in scored])
    norm = Normalize(scores.min(), scores.max())
    columns = [_unit([trial.values[field] for trial, _ in scored]) for field in fields]
    width = scores.max() - scores.min() or 1.0
    heights = np.stack([*columns, (scores - scores.min()) / width], axis=1)
    for row, score in sorted(zip(heights, scores, strict=True), key=lambda pair: pair[1]):
        axes.plot(row, color=COLOURS(norm(score)), linewidth=1.5)
    for i, field in enumerate(fields):
        found = [trial.values[field] for trial, _ in scored]
        for height, value in {
            round(h, 6): v for h, v in zip(columns[i], found, strict=True)
        }.items():
            if height in (0.0, 1.0) or isinstance(value, str) or len(set(map(str, found))) <= 6:
                _name_place(axes, i, height, _short(value))
    for height, score in ((0.0, scores.min()), (1.0, scores.max())):
        _name_place(axes, len(fields), height, f"{score:.1f}")
    axes.set_xticks(range(len(fields) + 1), [*fields, metric], fontsize=8)
    axes.set_yticks([])
    axes.set_xlim(-0.2, len(fields) + 0.3)
    axes.spines[["left", "right", "top"]].set_visible(False)
    for i in range(len(fields) + 1):
        axes.axvline(i, color="0.8", linewidth=0.8, zorder=0)
    figure.colorbar(ScalarMappable(norm, COLOURS), ax=axes, label=metric)
    return figure


def _name_place(axes: Axes, x: float, height: float, text: str) -> None:
    """Beside an axis, legible over the lines that pass there."""
    axes.annotate(
        text,
        (x, height),
        fontsize=8,
        xytext=(4, 3),
        textcoords="offset points",
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1},
        zorder=5,
    )


def _best_so_far(
    scored: Sequence[tuple[ScoredTrial, float]], metric: str, *, less_is_better: bool
) -> Figure:
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    seen = sorted(
        (each.seconds / 60, each.metrics[metric])
        for trial, _ in scored
        for each in trial.evaluations
    )
    minutes, scores = zip(*seen, strict=True)
    axes.scatter(minutes, scores, color="0.7", s=12, label="evaluations")
    best = (np.minimum if less_is_better else np.maximum).accumulate(scores)
    axes.step(minutes, best, where="post", color=BLUE, label="best so far")
    axes.set(xlabel="minutes since the sweep began", ylabel=metric)
    axes.legend(frameon=False)
    return figure


def _importances(importances: Mapping[str, float], metric: str) -> Figure:
    figure = Figure(figsize=(6, 0.5 * len(importances) + 1.2), layout="constrained")
    axes = figure.subplots()
    names = list(importances)[::-1]
    axes.barh(names, [importances[name] for name in names], color=BLUE)
    axes.set(xlabel=f"share of what decides {metric} (PED-ANOVA)", xlim=(0, 1))
    return figure


def _places(values: Sequence[Any]) -> tuple[list[float], list[str]]:
    """Where values lie on an axis, and the names of the places if they are no numbers."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return [float(value) for value in values], []
    names = sorted(set(map(str, values)))
    return [float(names.index(str(value))) for value in values], names


def _label(axes: Axes, names: list[str], values: Sequence[Any]) -> None:
    if names:
        axes.set_xticks(range(len(names)), names)
    elif _spans_decades(values):
        axes.set_xscale("log")
    elif all(isinstance(value, int) for value in values) and len(set(values)) <= MAX_TICKS:
        axes.set_xticks(sorted(set(values)))


def _unit(values: Sequence[Any]) -> np.ndarray:
    """Values between 0 and 1, by their logarithms where they span decades."""
    places, names = _places(values)
    numbers = np.array(places)
    if not names and _spans_decades(values):
        numbers = np.log(numbers)
    width = numbers.max() - numbers.min()
    return (numbers - numbers.min()) / width if width > 0 else np.full(len(numbers), 0.5)


def _spans_decades(values: Sequence[Any]) -> bool:
    return min(values) > 0 and max(values) / min(values) >= 10


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
