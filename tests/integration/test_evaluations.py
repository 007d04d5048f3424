"""Evaluations during a training: how often, beside it, and an end when nothing gets better."""

import contextlib
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from conftest import SMALL_SHAPES, finish, start_job, train
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from watched_runs import losses, metrics, training_workers

from xpool_platform.checkpoint_files import DamagedCheckpointError, checkpoints_below, read_state

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NUM_STEPS = 120
OPTIONS = (
    *(*SMALL_SHAPES, "--train.num-steps", str(NUM_STEPS), "--train.num-workers", "2"),
    *("--train.cpus-per-worker", "0.4", "--data.decode-cpus", "0.4", "--train.keep-best", "9"),
    *("--model.dropout", "0.3"),  # the workers' random numbers must not notice either
)
"""Two CPUs have room for two training workers, for loading, and for an evaluation."""


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    """The folder of `in between`, a run whose training workers evaluate, and of the others."""
    folder = tmp_path_factory.mktemp("evaluations")
    often = ("--train.evals-per-epoch", "1")  # of 48 videos x 3 captions in batches of 8: 18 steps
    done = train(*OPTIONS, *often, "--output-dir", str(folder), "--run-name", "in between")
    assert done.status == 0, done.err
    return folder


def run_of(output: Path, run_name: str) -> tuple[MlflowClient, Run]:
    client = MlflowClient(f"sqlite:///{output / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("shapes").experiment_id
    (run,) = client.search_runs([experiment], f"run_name = '{run_name}'")
    return client, run


def history(output: Path, run_name: str, key: str) -> dict[int, float]:
    client, run = run_of(output, run_name)
    logged = client.get_metric_history(run.info.run_id, key)
    found = {metric.step: metric.value for metric in logged}
    assert len(found) == len(logged)  # each step once
    return found


def scores(output: Path, run_name: str) -> dict[int, float | None]:
    kept = checkpoints_below(str(output / "runs" / run_name / "checkpoints"))
    states = {step: read_state(location) for step, location in kept.items()}
    assert not any(state.evaluation_due for state in states.values())
    return {step: state.score for step, state in states.items()}


def start_beside(output: Path, run_name: str, *options: str, **changes: str) -> subprocess.Popen:
    beside = ("--train.eval-workers", "1", "--train.evals-per-epoch", "1")
    return start_job(
        *OPTIONS, *beside, *options, "--output-dir", str(output), "--run-name", run_name, **changes
    )


def test_evaluations_of_each_epoch(output):
    steps = [17, 34, 51, 69, 86, 103, 120]
    assert list(history(output, "in between", "val/t2v/R1")) == steps
    assert list(scores(output, "in between")) == steps


def assert_as_in_between(output: Path, run_name: str) -> None:
    assert losses(output, run_name, NUM_STEPS) == losses(output, "in between", NUM_STEPS)
    for key in ("val/t2v/R1", "val/v2t/MnR"):
        assert history(output, run_name, key) == history(output, "in between", key)
    assert scores(output, run_name) == scores(output, "in between")
    assert metrics(output, run_name) == metrics(output, "in between")


def test_an_evaluation_beside_the_training_changes_nothing(output):
    done = finish(start_beside(output, "beside"))
    assert done.status == 0, done.err
    assert "evaluate (train.eval_workers" not in done.out
    assert_as_in_between(output, "beside")


def an_evaluation_is_due(checkpoints: str) -> bool:
    with contextlib.suppress(DamagedCheckpointError):  # it is being written
        return any(read_state(at).evaluation_due for at in checkpoints_below(checkpoints).values())
    return False


@pytest.mark.long
def test_an_evaluation_that_was_going_on_at_a_kill_is_done_again(output):
    process = start_beside(output, "killed", TEST_MARKER="killed-beside")
    kept = str(output / "runs" / "killed" / "checkpoints")
    while not an_evaluation_is_due(kept):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    psutil.wait_procs(training_workers("killed-beside"), timeout=60)
    assert an_evaluation_is_due(kept)
    resumed = finish(start_job("--resume", "killed", "--output-dir", str(output)))
    assert resumed.status == 0, resumed.err
    assert_as_in_between(output, "killed")


@pytest.mark.long
def test_without_room_the_training_workers_evaluate(output):
    done = finish(start_beside(output, "crowded", "--train.eval-workers", "9"))
    assert done.status == 0, done.err
    assert "evaluate (train.eval_workers 9): there is no room for 9 more" in done.out
    assert_as_in_between(output, "crowded")


@pytest.mark.long
def test_training_ends_when_nothing_gets_better(output):
    nothing = ("--optim.clip-lr", "1e-12", "--optim.pooling-lr", "1e-12", "--train.patience", "2")
    often = ("--train.evals-per-epoch", "1", "--run-name", "patient")
    done = train(*OPTIONS, *nothing, *often, "--output-dir", str(output))
    assert done.status == 0, done.err
    assert "training ended after step 51: no better score in 2 evaluations" in done.out
    assert list(scores(output, "patient")) == [17, 34, 51]
    assert max(history(output, "patient", "train/loss")) == 51
    _, run = run_of(output, "patient")
    assert run.data.tags["stopped_early"] == f"after step 51 of {NUM_STEPS}"
    assert run.data.metrics["best/step"] == 17
