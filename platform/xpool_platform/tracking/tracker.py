"""What a run's record takes, wherever it is kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RunStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetRecord:
    """A split of the data, as the page of a run shows it."""

    name: str
    context: str
    """What it is used for: `train`, `val` or `test`."""

    digest: str
    """Of all that decides what is learnt from it, or measured on it."""

    source: Mapping[str, Any]
    """Where it comes from."""

    profile: Mapping[str, float]
    """Its counts: `num_videos`, `num_captions`, `hours`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelRecord:
    """A model to be kept whole, as a checkpoint and what is known of it."""

    name: str
    checkpoint: str
    """Where the checkpoint is: a folder, or a URI. It stays there."""

    params: Mapping[str, str]
    metrics: Mapping[str, float]
    """As the run has them."""

    measured_on: DatasetRecord | None
    texts: Sequence[str]
    """With `videos`, paths of files, the example of what it takes."""

    videos: Sequence[str]


class Tracker(Protocol):
    """One run. Nothing here waits for a server but the end, in the process that drives the run."""

    uri: str
    """Where it is kept."""

    run_id: str
    """By what it is found there."""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Parameters by dotted name, once."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Facts that are no parameters."""

    def log_inputs(self, datasets: Sequence[DatasetRecord]) -> None:
        """The data of the run."""

    def log_metrics(self, metrics_of_step: Mapping[int, Mapping[str, float]]) -> None:
        """Numbers by step and name; keeps the order."""

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """A file or a folder that stays where it is, under `folder`."""

    def log_figure(self, figure: "Figure", name: str, folder: str = "") -> None:
        """A figure as an image file of this name, in `figures` under `folder`."""

    def log_table(self, columns: Mapping[str, Sequence[Any]], name: str) -> None:
        """A table, by columns, that the pages of runs show and compare, as a JSON file."""

    def log_checkpoint(self, location: str, name: str) -> None:
        """The files that make a model of a checkpoint, without those that only training needs."""

    def log_model(self, model: ModelRecord) -> None:
        """A model that can be loaded and used, after all that was logged before."""

    def register(self, name: str, ranks: str) -> None:
        """The run's model as a version of a registered one, its champion if it beats that.

        `ranks` is the path of its test queries' ranks among the run's artifacts.
        """

    def set_status(self, status: RunStatus, since_ms: int | None = None) -> None:
        """How the run is from now on, or since a time in milliseconds since 1970."""

    def finish(self, status: RunStatus) -> None:
        """End the run, and close."""

    def close(self) -> None:
        """Nothing follows from this process."""


class NullTracker:
    """Keeps nothing."""

    uri = ""
    run_id = ""

    def log_params(self, params: Mapping[str, Any]) -> None: ...

    def set_tags(self, tags: Mapping[str, str]) -> None: ...

    def log_inputs(self, datasets: Sequence[DatasetRecord]) -> None: ...

    def log_metrics(self, metrics_of_step: Mapping[int, Mapping[str, float]]) -> None: ...

    def log_artifact(self, path: Path, folder: str = "") -> None: ...

    def log_figure(self, figure: "Figure", name: str, folder: str = "") -> None: ...

    def log_table(self, columns: Mapping[str, Sequence[Any]], name: str) -> None: ...

    def log_checkpoint(self, location: str, name: str) -> None: ...

    def log_model(self, model: ModelRecord) -> None: ...

    def register(self, name: str, ranks: str) -> None: ...

    def set_status(self, status: RunStatus, since_ms: int | None = None) -> None: ...

    def finish(self, status: RunStatus) -> None: ...

    def close(self) -> None: ...
