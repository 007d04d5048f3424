"""A packaged model in MLflow: once, whole, and found by who has MLflow alone."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from loaded_elsewhere import loaded_elsewhere
from mlflow.models import Model
from mlflow.tracking import MlflowClient
from tiny_model import TEXTS, TinyModel, tiny_model

from recorded import record_run
from xpool_platform.checkpoint import CheckpointKeeper, TrainingFile, load_checkpoint
from xpool_platform.checkpoint_files import CheckpointState
from xpool_platform.tracking.logged_model import MeasuredOn, log_model
from xpool_platform.tracking.model_folder import save_model_folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> TinyModel:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def folder(tiny, tmp_path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(tiny.folder, tmp_path / "model"))


@pytest.fixture
def run_id(client, tmp_path) -> str:
    return record_run(client, "run", None, artifacts=tmp_path / "artifacts", status="RUNNING")


def test_a_logged_model_loads_where_this_project_is_not(client, run_id, folder, tiny, tmp_path):
    model_id = log_model(client, folder, run_id=run_id, name="retrieval", params={}, metrics={})
    videos = [tiny.videos[0], *(Path(video).as_uri() for video in tiny.videos[1:])]
    place = tmp_path / "elsewhere"
    uri = f"models:/{model_id}"
    found = loaded_elsewhere(uri, place, client.tracking_uri, texts=TEXTS, videos=videos)
    np.testing.assert_allclose(found["scores"], tiny.scores, atol=1e-5)
    np.testing.assert_allclose(found["example_scores"], tiny.scores[:2, 1:3], atol=1e-5)


def ready_models(client: MlflowClient) -> list[str]:
    experiment = client.get_experiment_by_name("shapes")
    found = client.search_logged_models([experiment.experiment_id])
    assert {model.status for model in found} <= {"READY"}
    return [model.model_id for model in found]


def test_a_model_is_logged_once_with_its_metrics(client, run_id, folder):
    client.log_metric(run_id, "test/t2v/R1", 40.0, timestamp=1000, step=3)
    client.log_metric(run_id, "test/t2v/R1", 41.5, timestamp=2000, step=5)
    once = {
        "run_id": run_id,
        "name": "retrieval",
        "params": {f"train.option_{i}": i for i in range(150)},
        "metrics": {"test/t2v/R1": 41.5, "best/step": 7.0},
        "measured_on": MeasuredOn(name="shapes test", digest="abc123"),
    }
    model_id = log_model(client, folder, **once)
    assert log_model(client, folder, **once) == model_id
    assert ready_models(client) == [model_id]
    model = client.get_logged_model(model_id)
    assert model.params["train.option_149"] == "149"
    found = {metric.key: metric for metric in model.metrics}
    assert set(found) == {"test/t2v/R1", "best/step"}
    metric = found["test/t2v/R1"]
    assert (metric.value, metric.step, metric.timestamp) == (41.5, 5, 2000)
    assert (metric.dataset_name, metric.dataset_digest) == ("shapes test", "abc123")
    history = client.get_metric_history(run_id, "test/t2v/R1")
    assert [(each.value, each.step) for each in history] == [(40.0, 3), (41.5, 5)]
    run = client.get_run(run_id)
    assert run.data.metrics["best/step"] == 7.0
    assert [output.model_id for output in run.outputs.model_outputs] == [model_id]
    assert Model.load(str(folder)).model_id == model_id


@pytest.mark.parametrize("step", ["log_model_artifacts", "log_batch", "finalize_logged_model"])
def test_a_model_that_was_half_logged_is_finished(step, client, run_id, folder, monkeypatch):
    what = {"run_id": run_id, "name": "retrieval", "params": {"a": 1}, "metrics": {"r": 1.0}}

    def away(*_args, **_kwargs):
        raise ConnectionError("the server is away")

    with monkeypatch.context() as patch:
        patch.setattr(client, step, away)
        with pytest.raises(ConnectionError):
            log_model(client, folder, **what)
    model_id = log_model(client, folder, **what)
    assert ready_models(client) == [model_id]
    assert len(client.get_logged_model(model_id).metrics) == 1
    assert len(client.get_metric_history(run_id, "r")) == 1
    assert len(client.get_run(run_id).outputs.model_outputs) == 1


def test_other_weights_of_the_same_run_are_another_model(client, run_id, folder, tiny, tmp_path):
    model, config, _ = load_checkpoint(tiny.checkpoint)
    with torch.no_grad():
        model.logit_scale.add_(1)
    keeper = CheckpointKeeper(str(tmp_path / "checkpoints"))
    keeper.add(model, config, CheckpointState(step=9), TrainingFile({}, {}))
    keeper.wait()
    later = tmp_path / "later"
    save_model_folder(later, keeper.of_step(9), texts=TEXTS, videos=["a.mp4"])
    what = {"run_id": run_id, "name": "retrieval", "params": {}, "metrics": {}}
    ids = [log_model(client, each, **what) for each in (folder, later, folder)]
    assert ids[0] == ids[2] != ids[1]
    assert set(ready_models(client)) == set(ids)
