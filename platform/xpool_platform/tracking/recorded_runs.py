"""Runs that MLflow has already: found by id or name, read, added to."""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID

from xpool_platform.errors import UserError
from xpool_platform.tracking.answers import answering

SQLITE = "sqlite:///"
RUN_ID = re.compile(r"[0-9a-f]{32}")
EVALUATIONS = "evaluations"
RESULT_FILES = "metrics.json", "ranks.parquet"
ELSEWHERE = "set --tracking.uri to where the runs were recorded"
AT_ONCE = 1000
"""Experiments, or runs, of one answer of the store."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedRun:
    """A run as MLflow has it."""

    run_id: str
    name: str
    experiment: str
    """Name of MLflow's experiment."""

    status: str
    """`RUNNING`, `FINISHED`, `FAILED` or `KILLED`."""

    params: Mapping[str, str]
    tags: Mapping[str, str]
    datasets: Mapping[str, str]
    """Name and digest of its data, by what they were used for."""


class RecordedRuns:
    """The runs of a tracking store.

    The methods raise UserError if the store does not answer.
    """

    def __init__(self, uri: str) -> None:
        """Raises UserError if there is no store at this URI."""
        self.uri = uri
        path = uri.removeprefix(SQLITE).partition("?")[0]
        if uri.startswith(SQLITE) and not Path(path).is_file():
            raise UserError(
                f"there is no MLflow store {path!r}: nothing was recorded there; set --output-dir "
                "to the runs' output folder, or --tracking.uri to where they were recorded"
            )
        with answering(self.uri, ELSEWHERE):
            self._client = MlflowClient(tracking_uri=uri)
            found = _all_pages(self._client.search_experiments)
            self._experiments = {each.experiment_id: each.name for each in found}

    def find(self, text: str) -> RecordedRun:
        """The run with this id, or of this name in any experiment.

        Raises UserError if there is none, or several have the name.
        """
        if RUN_ID.fullmatch(text):
            found = self._with_id(text)
            if found is not None:
                return found
        with answering(self.uri, ELSEWHERE):
            runs = [run for run in self._search(_named(text)) if run.info.run_name == text]
        if len(runs) == 1:
            return self._recorded(runs[0])
        if runs:
            which = "; ".join(
                f"{run.info.run_id} in {self._experiments[run.info.experiment_id]!r}"
                for run in runs[:10]
            )
            raise UserError(
                f"{len(runs)} runs have the name {text!r}; give the id of the one that you mean: "
                f"{which}"
            )
        near = difflib.get_close_matches(text, self._last_names(), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise UserError(
            f"MLflow at {self.uri} has no run with the name or id {text!r}: {hint}set "
            "--tracking.uri or --output-dir if it was recorded elsewhere"
        )

    def below(self, run: RecordedRun) -> list[RecordedRun]:
        """The runs below a run, as a sweep's trials are, in the order of their names."""
        with answering(self.uri, ELSEWHERE):
            found = self._search(f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run.run_id}'")
        return sorted(map(self._recorded, found), key=lambda each: each.name)

    def result_folders(self, run: RecordedRun) -> list[str]:
        """The run's artifact folders that hold an evaluation's files; empty: its root.

        A training's own report comes first.
        """
        with answering(self.uri, ELSEWHERE):
            found = {"": self._artifacts(run, "")}
            if EVALUATIONS in found[""]:
                for folder in sorted(self._artifacts(run, EVALUATIONS)):
                    found[folder] = self._artifacts(run, folder)
        return [
            folder
            for folder, files in found.items()
            if {f"{folder}/{name}".lstrip("/") for name in RESULT_FILES} <= files
        ]

    def fetch(self, run: RecordedRun, path: str, target: Path) -> Path:
        """A copy, in a folder, of a file among the run's artifacts."""
        with answering(self.uri, ELSEWHERE):
            return Path(self._client.download_artifacts(run.run_id, path, str(target)))

    def add_artifacts(self, run: RecordedRun, folder: Path, path: str) -> None:
        """Log the files of a folder onto a run, as artifacts under `path`."""
        with answering(self.uri, ELSEWHERE):
            self._client.log_artifacts(run.run_id, str(folder), path)

    def _with_id(self, run_id: str) -> RecordedRun | None:
        with answering(self.uri, ELSEWHERE):
            try:
                run = self._client.get_run(run_id)
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return None
                raise
        if run.info.lifecycle_stage != "active":
            raise UserError(f"run {run_id} was deleted in MLflow at {self.uri}; restore it there")
        return self._recorded(run)

    def _recorded(self, run: Any) -> RecordedRun:
        info, data = run.info, run.data
        datasets = {}
        for each in run.inputs.dataset_inputs if run.inputs else []:
            used_for = next(
                (tag.value for tag in each.tags if tag.key == MLFLOW_DATASET_CONTEXT), "data"
            )
            datasets[used_for] = f"{each.dataset.name} {each.dataset.digest}"
        return RecordedRun(
            run_id=info.run_id,
            name=info.run_name,
            experiment=self._experiments.get(info.experiment_id, info.experiment_id),
            status=info.status,
            params=data.params,
            tags=data.tags,
            datasets=datasets,
        )

    def _artifacts(self, run: RecordedRun, folder: str) -> set[str]:
        return {file.path for file in self._client.list_artifacts(run.run_id, folder or None)}

    def _last_names(self) -> list[str]:
        with answering(self.uri, ELSEWHERE):
            runs = self._client.search_runs(list(self._experiments), max_results=AT_ONCE)
        return [run.info.run_name for run in runs if run.info.run_name]

    def _search(self, condition: str) -> list[Any]:
        experiments = list(self._experiments)
        return list(_all_pages(partial(self._client.search_runs, experiments, condition)))


def _all_pages(search: Callable[..., Any]) -> Iterator[Any]:
    token = None
    while True:
        page = search(max_results=AT_ONCE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _named(text: str) -> str:
    """MLflow's filter for a name; it knows no escapes, so a wildcard stands for quotes."""
    if "'" not in text:
        return f"attributes.run_name = '{text}'"
    return "attributes.run_name LIKE '{}'".format(re.sub("['\"]", "_", text))
