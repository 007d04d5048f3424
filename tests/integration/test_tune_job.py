"""Sweeps as a user runs them, and what they leave in MLflow."""

import json
from pathlib import Path

import pytest
from conftest import SMALL_SHAPES, finish, processes_of, start_job
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from xpool_platform.tune.ranking import Ranking
from xpool_platform.tune.trial_record import TrialRecord, TrialRecords

RANKING = Ranking(["val/t2v/R1"], "val/t2v/R1", 1)

pytestmark = [pytest.mark.ray, pytest.mark.slow]

OPTIONS = (*SMALL_SHAPES, "--train.num-steps", "30", "--train.evals-per-run", "3")


def start(output: Path, *arguments: str, **changes: str):
    return start_job(*arguments, "--output-dir", str(output), script="jobs/tune.py", **changes)


def records(output: Path, name: str) -> list[TrialRecord]:
    return TrialRecords(output / "sweeps" / name / "trials").all()


def runs(output: Path, name: str) -> tuple[Run, list[Run]]:
    """The sweep's run and those of its trials, by their names."""
    client = MlflowClient(f"sqlite:///{output / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("shapes").experiment_id
    (parent,) = client.search_runs([experiment], f"run_name = '{name}'")
    below = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    children = client.search_runs([experiment], below)
    return parent, sorted(children, key=lambda run: run.info.run_name)


def test_a_sweep_from_its_space_to_its_winner(tmp_path):
    space = ("--space.optim.clip-lr", "loguniform(1e-4, 1e-2)")
    frames = ("--space.data.num-frames", "choice(2, 4)")
    named = (
        "--run-name",
        "sweep",
        "--num-trials",
        "3",
        "--scheduler",
        "none",
        "--register",
        "best",
    )
    done = finish(start(tmp_path, *OPTIONS, *space, *frames, *named), timeout_s=600)
    assert done.status == 0, done.err
    assert done.out.count("decoding: 68/68") == 1
    trials = records(tmp_path, "sweep")
    assert [trial.status for trial in trials] == ["FINISHED"] * 3
    assert all([each.step for each in trial.evaluations] == [10, 20, 30] for trial in trials)
    parent, children = runs(tmp_path, "sweep")
    assert [run.info.run_name for run in children] == ["sweep-000", "sweep-001", "sweep-002"]
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    for run, trial in zip(children, trials, strict=True):
        assert float(run.data.params["optim.clip_lr"]) == trial.values["optim.clip_lr"]
        assert "val/t2v/R1" in run.data.metrics
        assert not any(key.startswith("test/") for key in run.data.metrics)
    result = json.loads((tmp_path / "sweeps" / "sweep" / "sweep_result.json").read_text())
    winner = RANKING.ranked(trials)[0]
    assert result["best"][0]["name"] == winner.name
    assert parent.data.tags["best.trial"] == winner.name
    assert "best/test/t2v/R1" in parent.data.metrics
    assert "python jobs/train.py shapes --optim.clip-lr" in done.out
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    figures = {
        Path(file.path).name for file in client.list_artifacts(parent.info.run_id, "figures")
    }
    assert figures >= {"metric_by_field.png", "parallel_coordinates.png", "best_so_far.png"}
    assert client.get_model_version("best", "1").run_id == parent.info.run_id


def test_a_killed_sweep_goes_on(tmp_path):
    named = ("--run-name", "killed", "--num-trials", "3")
    process = start(tmp_path, *OPTIONS, *named, TEST_MARKER="killed-sweep")
    for line in process.stdout:
        if line.startswith("trials: 1/3"):
            break
    before = records(tmp_path, "killed")
    process.kill()
    process.wait()
    done = finish(start(tmp_path, "--resume", "killed"), timeout_s=600)
    assert done.status == 0, done.err
    after = records(tmp_path, "killed")
    assert [trial.values for trial in after[: len(before)]] == [trial.values for trial in before]
    assert after[0].evaluations == before[0].evaluations
    parent, children = runs(tmp_path, "killed")
    assert len(children) == 3
    assert "RUNNING" not in {run.info.status for run in (parent, *children)}
    assert not processes_of("killed-sweep")


def test_a_trial_that_fails_is_one_of_many(tmp_path):
    space = ("--space.optim.clip-lr", "grid(1e-3, 1e20)", "--search", "grid")
    done = finish(start(tmp_path, *OPTIONS, *space, "--run-name", "failing"), timeout_s=600)
    assert done.status == 0, done.err
    good, bad = records(tmp_path, "failing")
    assert (good.status, bad.status) == ("FINISHED", "FAILED")
    assert "the loss is nan" in bad.reason
    _, children = runs(tmp_path, "failing")
    assert [run.info.status for run in children] == ["FINISHED", "FAILED"]
    assert "the loss is nan" in children[1].data.tags["reason"]
