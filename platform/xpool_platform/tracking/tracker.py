"""What a run's record takes, wherever it is kept."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]


class Tracker(Protocol):
    """One run."""

    uri: str
    """Where it is kept."""

    run_id: str
    """By what it is found there."""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Parameters by dotted name, once."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Facts that are no parameters."""

    def log_metrics(self, metrics_of_step: Mapping[int, Mapping[str, float]]) -> None:
        """Numbers by step and name; returns at once, keeps the order."""

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """A file or a folder, under `folder`."""

    def log_figure(self, figure: "Figure", name: str) -> None:
        """A figure as an image file of this name."""

    def flush(self) -> None:
        """Wait until everything that was logged is kept."""

    def finish(self, status: RunStatus) -> None:
        """Flush and end the run."""
