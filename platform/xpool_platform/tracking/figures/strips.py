"""Frames of a video as one picture, small, side by side."""

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes

from xpool_platform.tracking.journal_tracker import DOTS_PER_INCH

WHITE = 255


def draw_strip(
    axes: Axes, frames: UInt8[np.ndarray, "num_frames height width 3"], extent: tuple[float, ...]
) -> None:
    """Frames side by side over an extent (left, right, bottom, top); the axes lose their frame."""
    box = axes.get_window_extent()
    dots = DOTS_PER_INCH / axes.get_figure(root=True).dpi  # type: ignore[union-attr]
    width = round(box.width * dots / len(frames))
    strip = strip_image(frames, cell_width=width, cell_height=round(box.height * dots))
    axes.imshow(strip, extent=extent, aspect="auto")  # type: ignore[arg-type]
    axes.set_axis_off()


def strip_image(
    frames: UInt8[np.ndarray, "num_frames height width 3"], *, cell_width: int, cell_height: int
) -> UInt8[np.ndarray, "strip_height strip_width 3"]:
    """Frames side by side, each whole in a cell of this shape, no larger than twice as shown.

    What a frame leaves of its cell is white, and so is the gap between two.
    """
    height, width = frames.shape[1:3]
    factor = min(max(1, height // cell_height, width // cell_width), height, width)
    small = _shrunk(frames, factor)
    height, width = small.shape[1:3]
    fitting_width = max(width, round(height * cell_width / cell_height))
    fitting_height = max(height, round(width * cell_height / cell_width))
    gap = max(1, fitting_width // 50)
    cells = np.full((len(frames), fitting_height, fitting_width + gap, 3), WHITE, np.uint8)
    top, left = (fitting_height - height) // 2, (fitting_width - width) // 2
    cells[:, top : top + height, left : left + width] = small
    return cells.transpose(1, 0, 2, 3).reshape(fitting_height, -1, 3)


def _shrunk(frames: np.ndarray, factor: int) -> np.ndarray:
    """Means of squares of this many pixels a side."""
    height, width = (size // factor for size in frames.shape[1:3])
    cut = frames[:, : height * factor, : width * factor]
    squares = cut.reshape(len(frames), height, factor, width, factor, 3)
    return squares.mean(axis=(2, 4), dtype=np.float32).round().astype(np.uint8)
