"""The tracker over MLflow. The only module that imports mlflow."""

import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
logging.getLogger("alembic").setLevel(logging.ERROR)

from mlflow.entities import Metric, Param, RunTag  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.tracking import MlflowClient  # noqa: E402

from xpool_platform.errors import UserError  # noqa: E402
from xpool_platform.tracking.tracker import RunStatus  # noqa: E402

MAX_PARAM_CHARS = 6000
PARENT = "mlflow.parentRunId"
"""Tag by which MLflow shows a run below another one."""

PARAMS_AT_ONCE = 100


class MlflowStore:
    """A tracking store that has answered, and this project's experiment in it.

    Raises UserError if the store or server does not answer. A store in a local file keeps its
    artifacts under `artifacts`.
    """

    def __init__(self, uri: str, experiment: str, artifacts: Path) -> None:
        self.uri = uri
        self.experiment = experiment
        with _as_user_error(uri):
            self._client = MlflowClient(tracking_uri=uri)
            found = self._client.get_experiment_by_name(experiment)
            if found is None:
                location = artifacts.as_uri() if uri.startswith("sqlite:") else None
                self._experiment_id = self._client.create_experiment(experiment, location)
            elif found.lifecycle_stage == "active":
                self._experiment_id = found.experiment_id
            else:
                raise UserError(
                    f"tracking.experiment {experiment!r} was deleted in MLflow at {uri}; restore "
                    "it there or set --tracking.experiment to another name"
                )

    def start_run(self, name: str) -> "MlflowTracker":
        """A new run. Raises UserError if the name is used."""
        with _as_user_error(self.uri):
            same_name = self._client.search_runs(
                [self._experiment_id], f"attributes.run_name = '{name}'", max_results=1
            )
            if same_name:
                raise UserError(
                    f"run_name {name!r} is used already in MLflow's experiment "
                    f"{self.experiment!r}; choose another --run-name or leave it out"
                )
            run = self._client.create_run(self._experiment_id, run_name=name)
        return MlflowTracker(self.uri, run.info.run_id)

    def child_run(self, name: str, parent_run_id: str) -> "MlflowTracker":
        """The run of this name below another one: the one that is there, or a new one."""
        with _as_user_error(self.uri):
            mine = f"attributes.run_name = '{name}' and tags.`{PARENT}` = '{parent_run_id}'"
            found = self._client.search_runs([self._experiment_id], mine, max_results=1)
            if found:
                return self.resume_run(found[0].info.run_id)
            run = self._client.create_run(
                self._experiment_id, run_name=name, tags={PARENT: parent_run_id}
            )
        return MlflowTracker(self.uri, run.info.run_id)

    def resume_run(self, run_id: str) -> "MlflowTracker":
        """A run that was interrupted, running again. Raises UserError if it is not there."""
        try:
            self._client.update_run(run_id, status="RUNNING")
        except MlflowException as error:
            raise UserError(
                f"MLflow at {self.uri} has no run {run_id}, where the training was recorded; put "
                "its store back, or begin a new run by --init-from"
            ) from error
        return MlflowTracker(self.uri, run_id, goes_on=True)

    def open_run(self, run_id: str) -> "MlflowTracker":
        """A run that is there already, to add to. Raises UserError if it is not."""
        try:
            self._client.get_run(run_id)
        except MlflowException as error:
            raise UserError(
                f"MLflow at {self.uri} has no run {run_id}, that of the checkpoint's training; set "
                "--tracking.uri to where it was recorded, or leave --into-training-run out"
            ) from error
        return MlflowTracker(self.uri, run_id)

    def register(self, name: str, run_id: str, folder: str) -> None:
        """A version of a registered model, whose files are a run's artifacts in this folder."""
        with _as_user_error(self.uri):
            try:
                self._client.create_registered_model(name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            source = f"{self._client.get_run(run_id).info.artifact_uri}/{folder}"
            self._client.create_model_version(name, source, run_id)


@contextmanager
def _as_user_error(uri: str) -> Iterator[None]:
    try:
        yield
    except (MlflowException, OSError) as error:
        raise UserError(
            f"tracking.uri {uri!r} does not answer as an MLflow store "
            f"({' '.join(str(error).split())[:200]}); start the server there, or leave "
            "--tracking.uri out to record the run in a local file"
        ) from error


class MlflowTracker:
    """One MLflow run. Metrics are sent by a thread of MLflow's, in order.

    Of a run that goes on, steps that it has of a metric already are left out. Attributes: `uri`,
    `run_id`.
    """

    def __init__(self, uri: str, run_id: str, *, goes_on: bool = False) -> None:
        self.uri = uri
        self.run_id = run_id
        self._client = MlflowClient(tracking_uri=uri)
        self._last_sent: Any = None
        self._logged = self._last_steps() if goes_on else {}

    def log_params(self, params: Mapping[str, Any]) -> None:
        entries = [Param(key, str(value)[:MAX_PARAM_CHARS]) for key, value in params.items()]
        for i in range(0, len(entries), PARAMS_AT_ONCE):
            self._client.log_batch(self.run_id, params=entries[i : i + PARAMS_AT_ONCE])

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self._client.log_batch(
            self.run_id, tags=[RunTag(key, value) for key, value in tags.items()]
        )

    def log_metrics(self, metrics_of_step: Mapping[int, Mapping[str, float]]) -> None:
        now_ms = int(time.time() * 1000)
        entries = [
            Metric(key, value, now_ms, step)
            for step, metrics in metrics_of_step.items()
            for key, value in metrics.items()
            if step > self._logged.get(key, -1)
        ]
        if not entries:
            return
        self._last_sent = self._client.log_batch(self.run_id, metrics=entries, synchronous=False)

    def log_artifact(self, path: Path, folder: str = "") -> None:
        if path.is_dir():
            self._client.log_artifacts(self.run_id, str(path), folder or None)
        else:
            self._client.log_artifact(self.run_id, str(path), folder or None)

    def log_figure(self, figure: "Figure", name: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            figure.savefig(path, dpi=120)
            self.log_artifact(path, "figures")

    def _last_steps(self) -> dict[str, int]:
        """The last step of each metric that the run has already: no step is logged twice."""
        keys = self._client.get_run(self.run_id).data.metrics
        histories = {key: self._client.get_metric_history(self.run_id, key) for key in keys}
        return {key: max(m.step for m in history) for key, history in histories.items() if history}

    def flush(self) -> None:
        if self._last_sent is not None:
            self._last_sent.wait()

    def finish(self, status: RunStatus) -> None:
        with _as_user_error(self.uri):
            self.flush()
            self._client.set_terminated(self.run_id, status)
