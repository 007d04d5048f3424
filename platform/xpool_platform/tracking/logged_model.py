"""The model of a run as MLflow's LoggedModel: its files, parameters and metrics in one place."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric
from mlflow.models import Model
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.tracking import MlflowClient
from mlflow.utils.time import get_current_time_millis

WEIGHTS = "weights"
"""Tag with the hash of the weights, which tells a run's models apart."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredOn:
    """The data set of a model's metrics, as it is logged with the run."""

    name: str
    digest: str


def log_model(
    client: MlflowClient,
    folder: Path,
    *,
    run_id: str,
    name: str,
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    measured_on: MeasuredOn | None = None,
) -> str:
    """Log what `save_model_folder` wrote as the run's model of this name; gives the model's id.

    A model of the same weights that is there already is not logged again, and one that an
    interruption left unfinished is finished. Metrics that the run has, to be flushed before, are
    linked as they are, and others are added to it.
    """
    description = Model.load(str(folder))
    model = _begun(client, run_id, name, description.metadata[WEIGHTS], params)
    if model.status == LoggedModelStatus.READY:
        return model.model_id
    description.model_id = description.model_uuid = model.model_id
    description.run_id, description.artifact_path = run_id, model.artifact_location
    description.save(str(folder / MLMODEL_FILE_NAME))
    client.log_model_artifacts(model.model_id, str(folder))
    linked = _linked_metrics(client, model, run_id, metrics, measured_on)
    if linked:
        client.log_batch(run_id, metrics=linked)
    outputs = client.get_run(run_id).outputs
    if model.model_id not in [each.model_id for each in outputs.model_outputs]:
        output = LoggedModelOutput(model.model_id, step=description.metadata["step"])
        client.log_outputs(run_id, [output])
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return model.model_id


def _begun(
    client: MlflowClient, run_id: str, name: str, weights: str, params: Mapping[str, Any]
) -> LoggedModel:
    """The model that is there, whole or not, or a new one."""
    experiment_id = client.get_run(run_id).info.experiment_id
    mine = f"name = '{name}' AND source_run_id = '{run_id}' AND tags.{WEIGHTS} = '{weights}'"
    found = client.search_logged_models([experiment_id], mine)
    # a whole one first
    for model in sorted(found, key=lambda each: each.status != LoggedModelStatus.READY):
        return model
    return client.create_logged_model(
        experiment_id,
        name,
        source_run_id=run_id,
        tags={WEIGHTS: weights},
        params={key: str(value) for key, value in params.items()},
    )


def _linked_metrics(
    client: MlflowClient,
    model: LoggedModel,
    run_id: str,
    metrics: Mapping[str, float],
    measured_on: MeasuredOn | None,
) -> list[Metric]:
    """Those that the model has not yet, with the time and step that they have in the run.

    MLflow takes the same value at the same time and step as one, so the run's curves stay.
    """
    there = {metric.key for metric in model.metrics or []}
    linked = []
    for key, value in metrics.items():
        if key in there:
            continue
        known = [each for each in client.get_metric_history(run_id, key) if each.value == value]
        time_ms, step = get_current_time_millis(), 0
        if known:
            time_ms, step = known[-1].timestamp, known[-1].step
        linked.append(
            Metric(
                key,
                value,
                time_ms,
                step,
                model_id=model.model_id,
                dataset_name=measured_on.name if measured_on else None,
                dataset_digest=measured_on.digest if measured_on else None,
                run_id=run_id,
            )
        )
    return linked
