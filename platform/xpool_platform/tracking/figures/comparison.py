"""Figures of a comparison of runs, in colours that survive colour blindness."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xpool_platform.tracking.figures.colours import BLUE, VERMILION

LOOKS = ((BLUE, "o"), (VERMILION, "s"))
"""Colour, one of Okabe and Ito's, and marker of the kinds, in the order of `kinds`."""

MAX_NAME_CHARACTERS = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A figure of a run with its 95 % interval."""

    value: float
    low: float
    high: float
    kind: str
    """What the legend says of it, and others alike."""


def forest_figure(
    names: Sequence[str],
    panels: Sequence[tuple[str, Sequence[Estimate]]],
    *,
    title: str,
    unit: str,
    kinds: Sequence[str],
    at_zero: bool,
) -> Figure:
    """Estimates of runs, one under the other, in panels of a title each.

    `kinds` are at most two; at_zero draws a line at no difference.
    """
    height = 0.32 * len(names) + 1.7
    figure = Figure(figsize=(4.6 * len(panels) + 1.4, height), layout="constrained")
    # a name may hold dollars, which would be a formula
    figure.suptitle(title, fontsize=11, parse_math=False)
    all_axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    places = np.arange(len(names))
    for axes, (its_title, estimates) in zip(all_axes, panels, strict=True):
        _draw(axes, estimates, kinds)
        if at_zero:
            axes.axvline(0, color="0.6", linewidth=1, linestyle="--", zorder=0)
        axes.set_title(its_title, fontsize=10)
        axes.set_xlabel(unit, fontsize=9)
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    all_axes[0].set_yticks(places, [_short(name) for name in names], fontsize=9, parse_math=False)
    all_axes[0].set_ylim(len(names) - 0.5, -0.5)
    handles = {
        label: handle
        for axes in all_axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=len(handles),
        fontsize=8,
        frameon=False,
    )
    return figure


def _draw(axes: Axes, estimates: Sequence[Estimate], kinds: Sequence[str]) -> None:
    for kind, (colour, marker) in zip(kinds, LOOKS, strict=False):
        rows = [i for i, each in enumerate(estimates) if each.kind == kind]
        chosen = [estimates[i] for i in rows]
        values = np.array([each.value for each in chosen])
        low, high = (np.array([getattr(each, end) for each in chosen]) for end in ("low", "high"))
        axes.errorbar(
            values,
            rows,
            xerr=[np.maximum(values - low, 0), np.maximum(high - values, 0)],
            fmt=marker,
            color=colour,
            capsize=3,
            markersize=5,
            label=kind,
        )


def _short(name: str) -> str:
    if len(name) <= MAX_NAME_CHARACTERS:
        return name
    half = MAX_NAME_CHARACTERS // 2
    return f"{name[: half - 1]}…{name[-half:]}"
