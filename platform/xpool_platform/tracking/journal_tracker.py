"""A tracker that writes a run's record into its journal, and leaves the sending to the driver."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpool_platform.checkpoint_files import CONFIG, MANIFEST, STATE, WEIGHTS
from xpool_platform.locations import is_uri, read_whole
from xpool_platform.tracking.journal import TRACKING, Journal
from xpool_platform.tracking.tracker import DatasetRecord, ModelRecord, RunStatus

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = "figures"
DOTS_PER_INCH = 120


class JournalTracker:
    """The record of one run, by one process. `who` names the process in the file's name.

    Attributes: `uri`, `run_id`, `run_dir`, and `began_s`, when the run began.
    """

    def __init__(self, run_dir: Path, who: str, *, uri: str, run_id: str) -> None:
        self.uri, self.run_id, self.run_dir = uri, run_id, run_dir
        self._who = who
        self._journal = Journal(run_dir, who, uri=uri, run_id=run_id)
        self.began_s = self._journal.run.began_s

    def log_params(self, params: Mapping[str, Any]) -> None:
        self._journal.write("params", params={key: str(value) for key, value in params.items()})

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self._journal.write("tags", tags=dict(tags))

    def log_inputs(self, datasets: Sequence[DatasetRecord]) -> None:
        self._journal.write("inputs", datasets=[asdict(each) for each in datasets])

    def log_metrics(self, metrics_of_step: Mapping[int, Mapping[str, float]]) -> None:
        steps = {step: dict(metrics) for step, metrics in metrics_of_step.items() if metrics}
        if steps:
            self._journal.write("metrics", time_ms=int(time.time() * 1000), steps=steps)

    def log_artifact(self, path: Path, folder: str = "") -> None:
        self._journal.write("artifact", path=str(path.absolute()), folder=folder)

    def log_figure(self, figure: "Figure", name: str, folder: str = "") -> None:
        path = self.run_dir / FIGURES / name
        path.parent.mkdir(exist_ok=True)
        figure.savefig(path, dpi=DOTS_PER_INCH)
        self.log_artifact(path, f"{folder}/{FIGURES}".lstrip("/"))

    def log_table(self, columns: Mapping[str, Sequence[Any]], name: str) -> None:
        path = self.run_dir / name
        rows = list(zip(*columns.values(), strict=True))
        path.write_text(json.dumps({"columns": list(columns), "data": rows}), encoding="utf-8")
        self._journal.write("table", path=str(path.absolute()))

    def log_checkpoint(self, location: str, name: str) -> None:
        if is_uri(location):  # artifacts are sent from a disk
            folder = self.run_dir / TRACKING / name
            folder.mkdir(parents=True, exist_ok=True)
            for file in (WEIGHTS, CONFIG, STATE, MANIFEST):
                (folder / file).write_bytes(read_whole(f"{location}/{file}"))
            location = str(folder)
        for file in (WEIGHTS, CONFIG, STATE, MANIFEST):
            self.log_artifact(Path(location, file), f"checkpoints/{name}")

    def log_model(self, model: ModelRecord) -> None:
        # a new file: all others are sent before it, the metrics of workers among them
        self._journal.close()
        self._journal = Journal(self.run_dir, self._who, uri=self.uri, run_id=self.run_id)
        self._journal.write("model", **asdict(model))

    def register(self, name: str, ranks: str) -> None:
        self._journal.write("register", name=name, ranks=ranks)

    def set_status(self, status: RunStatus, since_ms: int | None = None) -> None:
        self._journal.write("status", status=status, time_ms=since_ms or int(time.time() * 1000))

    def finish(self, status: RunStatus) -> None:
        self.set_status(status)
        self.close()

    def close(self) -> None:
        self._journal.close()
