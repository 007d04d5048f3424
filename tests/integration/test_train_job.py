"""The main job on a small corpus, with real videos, a real Ray and a real MLflow store."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SMALL_SHAPES, copy_checkout, environment, make_environment, train
from mlflow.entities import Dataset, Run
from mlflow.tracking import MlflowClient

from xpool_platform.checkpoint import load_checkpoint
from xpool_platform.config_io import flatten
from xpool_platform.tracking.figures.notes import NOTES
from xpool_platform.tracking.views import view_tags

pytestmark = pytest.mark.ray


def store_of(output: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{output / 'mlflow.db'}")


def runs_of(output: Path, experiment: str = "shapes") -> dict[str, Run]:
    client = store_of(output)
    found = client.get_experiment_by_name(experiment)
    return {run.info.run_name: run for run in client.search_runs([found.experiment_id])}


def history(output: Path, run: Run, key: str) -> list[tuple[int, float]]:
    logged = store_of(output).get_metric_history(run.info.run_id, key)
    return [(metric.step, metric.value) for metric in logged]


def datasets_of(run: Run) -> dict[str, Dataset]:
    return {used.dataset.name: used.dataset for used in run.inputs.dataset_inputs}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run in which every path has a space in it: checkout, Python and output."""
    output = tmp_path_factory.mktemp("shapes output")
    done = train(
        *(*SMALL_SHAPES, "--output-dir", str(output), "--run-name", "one"),
        root=copy_checkout(tmp_path_factory.mktemp("a checkout")),
        python=make_environment(tmp_path_factory.mktemp("an environment")),
    )
    assert done.status == 0, done.err
    return done, output


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


def test_the_run_has_parameters_and_metrics(trained):
    _, output = trained
    run = runs_of(output)["one"]
    assert run.info.status == "FINISHED"
    params = run.data.params
    assert params["optim.pooling_lr"] == "0.001"
    assert params["data.num_captions_train"] == "144"
    assert "run_name" not in params
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
    assert 0 < run.data.metrics["system/cpu_utilization_percentage"] <= 100
    assert run.data.metrics["system/system_memory_usage_megabytes"] > 0


def test_the_run_says_what_it_is_and_what_it_was_made_of(trained):
    _, output = trained
    run = runs_of(output)["one"]
    tags = run.data.tags
    assert tags["pooling"] == "xpool"
    assert "jobs/train.py" in tags["command"]
    note = tags["mlflow.note.content"]
    assert "**test**: 36 captions, 12 videos" in note
    assert f"| text to video | {run.data.metrics['test/t2v/R1']:.1f} (" in note
    assert "python jobs/train.py shapes --data.shapes.num-train 48" in note
    assert "of a checkout without git" in note
    datasets = datasets_of(run)
    assert set(datasets) == {"shapes-train", "shapes-val", "shapes-test"}
    assert len({dataset.digest for dataset in datasets.values()}) == 3
    profile = json.loads(datasets["shapes-train"].profile)
    assert (profile["num_videos"], profile["num_captions"]) == (48, 144)
    assert profile["hours"] > 0
    experiment = store_of(output).get_experiment(run.info.experiment_id)
    assert experiment.tags.items() >= view_tags().items()


def test_the_run_has_figures_tables_a_report_and_checkpoints(trained):
    _, output = trained
    run = runs_of(output)["one"]
    folders = ("", "figures", "checkpoints/best", "checkpoints/last")
    names = {
        item.path
        for folder in folders
        for item in store_of(output).list_artifacts(run.info.run_id, folder or None)
    }
    files = ("config.json", "metrics.json", "ranks.parquet", "report.html")
    assert names >= {*files, "failures.parquet", "failures.json", "results.json"}
    assert {name for name in names if name.startswith("figures/")} == {
        f"figures/{name}.png" for name in NOTES
    }
    for name in ("best", "last"):
        assert f"checkpoints/{name}/model.safetensors" in names
    (best,) = run.outputs.model_outputs
    model = store_of(output).get_logged_model(best.model_id)
    assert (model.name, model.status) == ("shapes", "READY")
    assert model.params["optim.pooling_lr"] == "0.001"
    metrics = {metric.key: metric for metric in model.metrics}
    assert metrics["test/t2v/R1"].value == run.data.metrics["test/t2v/R1"]
    assert metrics["test/t2v/R1"].dataset_name == "shapes-test"


def test_the_logged_checkpoint_is_a_model(trained, tmp_path):
    _, output = trained
    run = runs_of(output)["one"]
    folder = store_of(output).download_artifacts(run.info.run_id, "checkpoints/best", str(tmp_path))
    model, config, state = load_checkpoint(Path(folder))
    assert config.model.clip_name == "tiny"
    assert state.step in (6, 12)
    assert model.pooling is not None
    fields = {key: str(value) for key, value in flatten(config).items() if key != "run_name"}
    assert run.data.params.items() >= fields.items()


@pytest.mark.slow
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
    digests = [
        {name: dataset.digest for name, dataset in datasets_of(runs[run]).items()}
        for run in ("one", "again")
    ]
    assert digests[0] == digests[1]
    commit = runs["again"].data.tags["mlflow.source.git.commit"]
    assert commit[:12] in runs["again"].data.tags["mlflow.note.content"]


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
        if key not in ("model.pooling", "data.decoder")
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
