"""A run in MLflow, as the place to which its journals are sent."""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_LOGGED_ARTIFACTS

from xpool_platform.errors import UserError
from xpool_platform.tracking.answers import http_status
from xpool_platform.tracking.champion import beats_champion
from xpool_platform.tracking.journal import Entry
from xpool_platform.tracking.model_registry import register
from xpool_platform.tracking.sender import AwayError, RefusedError, Say

MAX_PARAM_CHARS = 6000
MAX_TAG_CHARS = 8000
PARAMS_AT_ONCE, METRICS_AT_ONCE = 100, 1000

TRY_AGAIN = (401, 403, 408, 429, 499)
"""Answers of HTTP below 500 that may be others later: of doors, of limits, of haste."""


class MlflowRun:
    """Sends entries to a run. Steps that it has of a metric already are left out.

    A run that is new has none, and is not asked.
    """

    def __init__(self, uri: str, run_id: str, *, say: Say, is_new: bool = False) -> None:
        self._client = MlflowClient(tracking_uri=uri)
        self._say = say
        self._uri, self._run_id = uri, run_id
        self._last_steps: dict[str, int] | None = {} if is_new else None
        self._kinds: dict[str, Callable[[list[Mapping[str, Any]]], None]] = {
            "params": self._params,
            "tags": self._tags,
            "inputs": self._inputs,
            "metrics": self._metrics,
            "artifact": self._artifacts,
            "table": self._tables,
            "model": self._models,
            "register": self._register,
            "status": self._status,
        }

    def send(self, entries: list[Entry]) -> None:
        with _away_or_refused(self._uri):
            self._kinds[entries[0].kind]([entry.content for entry in entries])

    def _params(self, contents: list[Mapping[str, Any]]) -> None:
        params: dict[str, str] = {}
        for key, value in (pair for each in contents for pair in each["params"].items()):
            if params.setdefault(key, value) != value:
                raise RefusedError(f"parameter {key!r} is {params[key]!r}, and {value!r} later")
        listed = [Param(key, value[:MAX_PARAM_CHARS]) for key, value in params.items()]
        for i in range(0, len(listed), PARAMS_AT_ONCE):
            self._client.log_batch(self._run_id, params=listed[i : i + PARAMS_AT_ONCE])

    def _tags(self, contents: list[Mapping[str, Any]]) -> None:
        tags = {key: value for each in contents for key, value in each["tags"].items()}
        listed = [RunTag(key, value[:MAX_TAG_CHARS]) for key, value in tags.items()]
        self._client.log_batch(self._run_id, tags=listed)

    def _inputs(self, contents: list[Mapping[str, Any]]) -> None:
        datasets = [
            DatasetInput(
                Dataset(
                    name=each["name"],
                    digest=each["digest"],
                    source_type="local",
                    source=json.dumps(each["source"]),
                    profile=json.dumps(each["profile"]),
                ),
                [InputTag(MLFLOW_DATASET_CONTEXT, each["context"])],
            )
            for content in contents
            for each in content["datasets"]
        ]
        self._client.log_inputs(self._run_id, datasets=datasets)

    def _metrics(self, contents: list[Mapping[str, Any]]) -> None:
        if self._last_steps is None:
            self._last_steps = self._logged_steps()
        last, new = dict(self._last_steps), []
        for content in contents:
            for step, metrics in content["steps"].items():
                for key, value in metrics.items():
                    if int(step) > last.get(key, -1):
                        new.append(Metric(key, value, content["time_ms"], int(step)))
                        last[key] = int(step)
        for i in range(0, len(new), METRICS_AT_ONCE):
            self._client.log_batch(self._run_id, metrics=new[i : i + METRICS_AT_ONCE])
        self._last_steps = last

    def _artifacts(self, contents: list[Mapping[str, Any]]) -> None:
        for content in contents:
            path, folder = Path(content["path"]), content["folder"] or None
            if path.is_dir():
                self._client.log_artifacts(self._run_id, str(path), folder)
            elif path.is_file():
                self._client.log_artifact(self._run_id, str(path), folder)
            else:
                raise RefusedError(f"{path} is not there any more")

    def _tables(self, contents: list[Mapping[str, Any]]) -> None:
        """As MlflowClient.log_table keeps them, which would append to one that was sent."""
        self._artifacts([{**content, "folder": ""} for content in contents])
        named = json.loads(
            self._client.get_run(self._run_id).data.tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]")
        )
        for content in contents:
            table = {"path": Path(content["path"]).name, "type": "table"}
            if table not in named:
                named.append(table)
        self._client.set_tag(self._run_id, MLFLOW_LOGGED_ARTIFACTS, json.dumps(named))

    def _models(self, contents: list[Mapping[str, Any]]) -> None:
        # pyfunc takes a second to import
        from xpool_platform.tracking.logged_model import MeasuredOn, log_model  # noqa: PLC0415
        from xpool_platform.tracking.model_folder import save_model_folder  # noqa: PLC0415

        for said in contents:
            data = said["measured_on"]
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary, "model")
                save_model_folder(
                    folder, said["checkpoint"], texts=said["texts"], videos=said["videos"]
                )
                log_model(
                    self._client,
                    folder,
                    run_id=self._run_id,
                    name=said["name"],
                    params=said["params"],
                    metrics=said["metrics"],
                    measured_on=MeasuredOn(name=data["name"], digest=data["digest"])
                    if data
                    else None,
                )

    def _register(self, contents: list[Mapping[str, Any]]) -> None:
        for said in contents:
            outputs = self._client.get_run(self._run_id).outputs
            if outputs is None or not outputs.model_outputs:
                raise RefusedError(f"run {self._run_id} has no model to register")
            registered = register(
                self._client,
                said["name"],
                model_id=outputs.model_outputs[-1].model_id,
                run_id=self._run_id,
                ranks=said["ranks"],
                beats=beats_champion,
            )
            self._say(registered.sentence)

    def _status(self, contents: list[Mapping[str, Any]]) -> None:
        status, time_ms = contents[-1]["status"], contents[-1]["time_ms"]
        if status == "RUNNING":
            self._client.update_run(self._run_id, status=status)
        else:
            self._client.set_terminated(self._run_id, status, end_time=time_ms)

    def _logged_steps(self) -> dict[str, int]:
        """The last step of each metric that the run has."""
        keys = self._client.get_run(self._run_id).data.metrics
        histories = {key: self._client.get_metric_history(self._run_id, key) for key in keys}
        return {key: max(m.step for m in history) for key, history in histories.items() if history}


@contextmanager
def _away_or_refused(uri: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:  # a checkpoint that is damaged
        raise RefusedError(str(error)) from error
    except (MlflowException, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        status = http_status(error)
        if status is not None and 400 <= status < 500 and status not in TRY_AGAIN:
            raise RefusedError(reason) from error
        raise AwayError(f"MLflow at {uri} does not take what is logged ({reason})") from error
