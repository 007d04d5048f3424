"""The size that the figures of a run share, and the look of their axes."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH_IN = 8.4
"""At the 120 dots an inch of the record 1,008 pixels, which MLflow shows without shrinking them."""


def axes_at(figure: Figure, *, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place in inches from the figure's upper left corner.

    Faster by far than a layout engine where a figure has dozens of them.
    """
    across, down = figure.get_size_inches()
    box = (left / across, 1 - (top + height) / down, width / across, height / down)
    return figure.add_axes(box)


def write(
    figure: Figure, text: str, *, left: float, top: float, size: float = 9, **options: Any
) -> None:
    """Text with its upper left corner at a place in inches from the figure's; never a formula."""
    across, down = figure.get_size_inches()
    figure.text(
        left / across,
        1 - top / down,
        text,
        fontsize=size,
        va="top",
        parse_math=False,
        **options,
    )


def tidy(axes: Axes, *, grid: str = "y") -> None:
    """A frame of two sides, and a light grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="0.9", linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
