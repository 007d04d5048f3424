"""MLflow's store or server, and the runs of this project in it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from xpool_platform.errors import UserError
from xpool_platform.tracking.answers import answering
from xpool_platform.tracking.mlflow_run import MlflowRun
from xpool_platform.tracking.sender import Say
from xpool_platform.tracking.sending_tracker import SendingTracker
from xpool_platform.tracking.views import view_tags

AWAIT_S = 600.0
"""How long the trials of a sweep wait for a server that is away as they begin."""

ELSEWHERE = "leave --tracking.uri out to record the run in a local file"

T = TypeVar("T")


class MlflowStore:
    """A tracking store that has answered, and this project's experiment in it.

    Raises UserError if the store or server does not answer, unless it may be away: then only runs
    that are there already can be had. A store in a local file keeps its artifacts under
    `artifacts`.
    """

    def __init__(
        self, uri: str, experiment: str, artifacts: Path, *, may_be_away: bool = False
    ) -> None:
        self.uri = uri
        self.experiment = experiment
        self._client = MlflowClient(tracking_uri=uri)
        self._experiment_id = ""
        if may_be_away:
            return
        with answering(uri, ELSEWHERE):
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
            shown = found.tags if found is not None else {}
            for key, value in view_tags().items():
                if key not in shown:
                    self._client.set_experiment_tag(self._experiment_id, key, value)

    def start_run(self, name: str, run_dir: Path, say: Say) -> SendingTracker:
        """A new run. Raises UserError if the name is used."""
        with answering(self.uri, ELSEWHERE):
            same_name = self._client.search_runs(
                [self._experiment_id], f"attributes.run_name = '{name}'", max_results=1
            )
            if same_name:
                raise UserError(
                    f"run_name {name!r} is used already in MLflow's experiment "
                    f"{self.experiment!r}; choose another --run-name or leave it out"
                )
            run = self._client.create_run(self._experiment_id, run_name=name)
        return self._tracker(run.info.run_id, self._experiment_id, run_dir, say, is_new=True)

    def child_run(self, name: str, parent_run_id: str, run_dir: Path, say: Say) -> SendingTracker:
        """The run of this name below another one: the one that is there, or a new one."""
        with answering(self.uri, ELSEWHERE):
            mine = (
                f"attributes.run_name = '{name}' and tags.`{MLFLOW_PARENT_RUN_ID}` = "
                f"'{parent_run_id}'"
            )
            found = self._client.search_runs([self._experiment_id], mine, max_results=1)
            if found:
                return self.resume_run(found[0].info.run_id, run_dir, say)
            run = self._client.create_run(
                self._experiment_id, run_name=name, tags={MLFLOW_PARENT_RUN_ID: parent_run_id}
            )
        return self._tracker(run.info.run_id, self._experiment_id, run_dir, say, is_new=True)

    def resume_run(self, run_id: str, run_dir: Path, say: Say) -> SendingTracker:
        """A run that was interrupted, running again. Raises UserError if it is not there."""
        tracker = self.open_run(run_id, run_dir, say)
        tracker.set_status("RUNNING")
        return tracker

    def open_run(self, run_id: str, run_dir: Path, say: Say) -> SendingTracker:
        """A run that is there already, to add to. Raises UserError if it is not.

        A server that has gone away meanwhile is no error.
        """
        experiment_id = ""
        try:
            experiment_id = self._client.get_run(run_id).info.experiment_id
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise UserError(
                    f"MLflow at {self.uri} has no run {run_id}, where the training was recorded; "
                    "set --tracking.uri to where it was, put its store back, or begin a new run "
                    "by --init-from"
                ) from error
        return self._tracker(run_id, experiment_id, run_dir, say)

    def _tracker(
        self, run_id: str, experiment_id: str, run_dir: Path, say: Say, *, is_new: bool = False
    ) -> SendingTracker:
        return SendingTracker(
            run_dir,
            uri=self.uri,
            run_id=run_id,
            experiment_id=experiment_id,
            destination=MlflowRun(self.uri, run_id, say=say, is_new=is_new),
            say=say,
        )


def awaited(call: Callable[[], T], say: Say, within_s: float = AWAIT_S) -> T:
    """What a call to a store gives, tried again while its server is away.

    Raises the last UserError after within_s.
    """
    started, told = time.monotonic(), False
    while True:
        try:
            return call()
        except UserError as error:
            if time.monotonic() - started > within_s:
                raise
            if not told:
                say(f"waiting up to {within_s:g} s: {error}")
                told = True
            time.sleep(2)
