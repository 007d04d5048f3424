"""The main job on a small corpus, with real videos, a real Ray and a real MLflow store."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SMALL_SHAPES, copy_checkout, environment, make_environment, train
from mlflow.tracking import MlflowClient

from xpool_platform.checkpoint import load_checkpoint
from xpool_platform.config_io import flatten

pytestmark = pytest.mark.ray


def runs_of(output: Path, experiment: str = "shapes") -> dict:
    client = MlflowClient(f"sqlite:///{output / 'mlflow.db'}")
    found = client.get_experiment_by_name(experiment)
    return {run.info.run_name: run for run in client.search_runs([found.experiment_id])}


def history(output: Path, run, key: str) -> list[tuple[int, float]]:
    client = MlflowClient(f"sqlite:///{output / 'mlflow.db'}")
    return [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, key)]


@pytest.fixture(scope="module")
def trained(shapes_output, tmp_path_factory):
    """A run in which every path has a space in it: checkout, Python and output."""
    done = train(
        *(*SMALL_SHAPES, "--output-dir", str(shapes_output), "--run-name", "one"),
        root=copy_checkout(tmp_path_factory.mktemp("a checkout")),
        python=make_environment(tmp_path_factory.mktemp("an environment")),
    )
    assert done.status == 0, done.err
    return done, shapes_output


def test_the_console_shows_progress_the_table_and_where_to_look(trained):
    done, output = trained
    assert done.err == ""
    for words in ("corpus: 68/68", "decoding: 68/68", "training: 12/12", "pairs/s"):
        assert words in done.out
    for words in ("R@1", "R@10", "MdR", "MnR", "text to video", "video to text", "chance"):
        assert words in done.out
    last = done.out.rstrip().splitlines()[-1]
    assert last.startswith("MLflow: mlflow ui --backend-store-uri")
    assert str(output) in last
    assert "make ui" not in last  # that opens the checkout's own store
    assert not re.search(r"warning|deprecat|traceback", done.out, re.IGNORECASE)


def test_the_run_has_parameters_metrics_tags_and_artifacts(trained):
    _, output = trained
    run = runs_of(output)["one"]
    assert run.info.status == "FINISHED"
    params = run.data.params
    assert params["optim.pooling_lr"] == "0.001"
    assert params["data.num_captions_train"] == "144"
    losses = history(output, run, "train/loss")
    assert [step for step, _ in losses] == list(range(1, 13))
    for key in ("train/grad_norm", "train/logit_scale", "train/lr_clip", "train/lr_pooling"):
        assert len(history(output, run, key)) == 12
    assert run.data.metrics["train/pairs_per_s"] > 0
    assert run.data.metrics["train/data_wait_s"] >= 0
    assert [step for step, _ in history(output, run, "val/t2v/R1")] == [6, 12]
    for name in ("R1", "R5", "R10", "MdR", "MnR"):
        for direction in ("t2v", "v2t"):
            value = run.data.metrics[f"test/{direction}/{name}"]
            assert run.data.metrics[f"test/{direction}/{name}_low"] <= value
            assert value <= run.data.metrics[f"test/{direction}/{name}_high"]
    assert run.data.tags["pooling"] == "xpool"
    assert "jobs/train.py" in run.data.tags["command"]
    client = MlflowClient(f"sqlite:///{output / 'mlflow.db'}")
    names = {
        item.path
        for folder in ("", "figures", "checkpoints/best", "checkpoints/last")
        for item in client.list_artifacts(run.info.run_id, folder or None)
    }
    assert {"config.json", "figures/attention.png", "checkpoints/best/model.safetensors"} <= names


def test_the_logged_checkpoint_is_a_model(trained, tmp_path):
    _, output = trained
    client = MlflowClient(f"sqlite:///{output / 'mlflow.db'}")
    run = runs_of(output)["one"]
    folder = client.download_artifacts(run.info.run_id, "checkpoints/best", str(tmp_path))
    model, config, state = load_checkpoint(Path(folder))
    assert config.model.clip_name == "tiny"
    assert state.step in (6, 12)
    assert model.pooling is not None
    assert (
        run.data.params.items()
        >= {key: str(value) for key, value in flatten(config).items()}.items()
    )


def test_the_same_seed_gives_the_same_numbers(trained):
    _, output = trained
    again = train(*SMALL_SHAPES, "--output-dir", str(output), "--run-name", "again")
    assert again.status == 0, again.err
    assert "decoding: 0/0" in again.out
    runs = runs_of(output)
    losses = [history(output, runs[name], "train/loss") for name in ("one", "again")]
    assert losses[0] == losses[1]
    for key, value in runs["one"].data.metrics.items():
        if key.startswith(("test/", "val/", "best/")):
            assert runs["again"].data.metrics[key] == value, key


@pytest.mark.slow
def test_one_worker_gives_the_losses_of_two(trained):
    _, output = trained
    done = train(
        *(*SMALL_SHAPES, "--output-dir", str(output), "--run-name", "alone"),
        *("--train.num-workers", "1", "--train.cpus-per-worker", "1"),
    )
    assert done.status == 0, done.err
    runs = runs_of(output)
    one, alone = (history(output, runs[name], "train/loss") for name in ("one", "alone"))
    assert [step for step, _ in one] == [step for step, _ in alone]
    assert [loss for _, loss in alone] == pytest.approx([loss for _, loss in one], rel=1e-5)


def test_a_used_run_name_is_refused(trained):
    _, output = trained
    done = train(*SMALL_SHAPES, "--output-dir", str(output), "--run-name", "one")
    assert done.status == 1
    assert "run_name 'one' is used already" in done.err
    assert "Traceback" not in done.err


@pytest.mark.slow
def test_pooling_by_the_mean_stands_beside_it(trained):
    _, output = trained
    done = train(
        *(*SMALL_SHAPES, "--output-dir", str(output), "--run-name", "mean"),
        *("--model.pooling", "mean", "--data.decoder", "decord"),
    )
    assert done.status == 0, done.err
    runs = runs_of(output)
    assert runs["mean"].data.params["model.pooling"] == "mean"
    assert runs["mean"].data.params["data.num_videos_bad"] == "0"
    assert runs["mean"].data.metrics.keys() >= {"test/t2v/R1", "test/v2t/MnR"}
    shared = {
        key: value
        for key, value in runs["one"].data.params.items()
        if key not in ("run_name", "model.pooling", "data.decoder")
    }
    assert runs["mean"].data.params.items() >= shared.items()


def test_the_packages_need_no_ray_to_import_the_model():
    code = "import sys, xpool.model, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"ray", "mlflow", "tyro"} & set(json.loads(done.stdout))
