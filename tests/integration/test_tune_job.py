"""Sweeps as a user runs them, through every kind of end, and what they leave in MLflow."""

import csv
import json
import signal
import time
from pathlib import Path

import psutil
import pytest
from conftest import SMALL_SHAPES, finish, processes_of, start_job
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from object_store import served_bucket
from xpool_platform.checkpoint_files import checkpoints_below
from xpool_platform.tune.ranking import Ranking
from xpool_platform.tune.trial_record import TrialRecord, TrialRecords

RANKING = Ranking(["val/t2v/R1"], "val/t2v/R1", 1)

pytestmark = [pytest.mark.ray, pytest.mark.slow]

OPTIONS = (*SMALL_SHAPES, "--train.num-steps", "30", "--train.evals-per-run", "3")


def start(output: Path, *arguments: str, **changes: str):
    return start_job(*arguments, "--output-dir", str(output), script="jobs/tune.py", **changes)


def wait_for(process, words: str) -> None:
    """Read what a sweep says until it says this."""
    for line in process.stdout:
        if words in line:
            return
    raise AssertionError(f"the sweep ended before it said {words!r}: {process.stderr.read()}")


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


def artifacts(client: MlflowClient, run: Run, folder: str) -> set[str]:
    return {Path(file.path).name for file in client.list_artifacts(run.info.run_id, folder)}


def test_a_sweep_from_its_space_to_its_winner(tmp_path):
    space = ("--space.optim.clip-lr", "loguniform(1e-4, 1e-2)")
    frames = ("--space.data.num-frames", "choice(2, 4)")
    named = ("--run-name", "sweep", "--num-trials", "4", "--scheduler", "none")
    search = ("--search", "optuna", "--objectives", "t2v/R1, v2t/MnR", "--register", "best")
    with served_bucket("runs") as bucket:
        kept_there = ("--train.checkpoints-dir", f"{bucket}/checkpoints")
        sweep = (*OPTIONS, *space, *frames, *named, *search, *kept_there)
        done = finish(start(tmp_path, *sweep), timeout_s=600)
        assert len(checkpoints_below(f"{bucket}/checkpoints/sweep-000")) > 0
    assert done.status == 0, done.err
    assert "1 trial at a time" in done.out
    assert done.out.count("decoding: 68/68") == 1
    decoded = [path.stat().st_mtime for path in (tmp_path / "frames").rglob("*.parquet")]
    assert len(decoded) == 68
    assert max(decoded) < (tmp_path / "runs" / "sweep-000" / "config.json").stat().st_mtime
    assert "WARNING" not in done.out + done.err
    trials = records(tmp_path, "sweep")
    assert [trial.status for trial in trials] == ["FINISHED"] * 4
    assert all([each.step for each in trial.evaluations] == [10, 20, 30] for trial in trials)
    for trial in trials:
        assert "decoding" not in (tmp_path / "runs" / trial.name / "console.txt").read_text()
    parent, children = runs(tmp_path, "sweep")
    assert [run.info.run_name for run in children] == [f"sweep-00{i}" for i in range(4)]
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    for run, trial in zip(children, trials, strict=True):
        assert float(run.data.params["optim.clip_lr"]) == trial.values["optim.clip_lr"]
        assert int(run.data.params["data.num_frames"]) == trial.values["data.num_frames"]
        assert run.data.metrics["trial/best"] == RANKING.value(trial)
        assert "val/t2v/R1_low" in run.data.metrics
        assert not any(key.startswith("test/") for key in run.data.metrics)
    result = json.loads((tmp_path / "sweeps" / "sweep" / "sweep_result.json").read_text())
    winner = RANKING.ranked(trials)[0]
    assert result["best"][0]["name"] == winner.name
    assert result["report"]["split"] == "test"
    recall = result["report"]["metrics"]["t2v/R1"]
    assert f"{winner.name} on test: t2v R@1 {recall:.1f} (" in done.out
    assert parent.data.tags["best.trial"] == winner.name
    assert float(parent.data.params["best.optim.clip_lr"]) == winner.values["optim.clip_lr"]
    assert parent.data.metrics["best/val/t2v/R1"] == RANKING.value(winner)
    assert parent.data.metrics["best/test/t2v/R1"] == recall
    assert "again on the whole schedule: python jobs/train.py shapes --output-dir" in done.out
    assert f"--optim.clip-lr {winner.values['optim.clip_lr']}" in done.out
    with (tmp_path / "sweeps" / "sweep" / "trials.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["trial"] for row in table] == [trial.name for trial in trials]
    assert [float(row["val/t2v/R1"]) for row in table] == [RANKING.value(each) for each in trials]
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    figures = {"metric_by_field.png", "parallel_coordinates.png", "best_so_far.png"}
    assert figures <= artifacts(client, parent, "figures")
    assert "model.safetensors" in artifacts(client, parent, "checkpoints/best")
    assert client.get_model_version("best", "1").run_id == parent.info.run_id
    assert "is finished, its result is in" in finish(start(tmp_path, "--resume", "sweep")).err


@pytest.mark.long
def test_a_sweep_goes_on_after_every_kind_of_end(tmp_path):
    named = ("--run-name", "disturbed", "--num-trials", "4", "--train.checkpoint-steps", "5")
    process = start(tmp_path, *OPTIONS, *named, TEST_MARKER="killed-sweep")
    wait_for(process, "trials: 1/4")
    before = records(tmp_path, "disturbed")
    process.kill()
    process.wait()

    process = start(tmp_path, "--resume", "disturbed", TEST_MARKER="interrupted-sweep")
    wait_for(process, "trials: 2/4")
    process.send_signal(signal.SIGTERM)
    done = finish(process)
    assert done.status == 130, done.err
    assert "python jobs/tune.py --resume disturbed goes on from here" in done.out
    parent, children = runs(tmp_path, "disturbed")
    assert "RUNNING" not in {run.info.status for run in (parent, *children)}
    assert not processes_of("interrupted-sweep")

    process = start(tmp_path, "--resume", "disturbed", TEST_MARKER="hit-sweep")
    wait_for(process, "trials: 3/4")
    trial_process("hit-sweep").kill()  # its training holds places in the cluster
    done = finish(process, timeout_s=400)
    assert done.status == 0, done.err

    after = records(tmp_path, "disturbed")
    assert [trial.values for trial in after[: len(before)]] == [trial.values for trial in before]
    assert after[0].evaluations == before[0].evaluations
    assert {trial.status for trial in after} <= {"FINISHED", "STOPPED"}
    parent, children = runs(tmp_path, "disturbed")
    assert [run.info.run_name for run in children] == [f"disturbed-00{i}" for i in range(4)]
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    for run, trial in zip(children, after, strict=True):
        steps = [each.step for each in trial.evaluations]
        assert steps == [10, 20, 30][: len(steps)]
        stopped = trial.status == "STOPPED"
        assert ("stopped_early" in run.data.tags) == stopped
        history = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").get_metric_history(
            run.info.run_id, "progress/val/t2v/R1"
        )
        assert [point.step for point in history] == steps
    assert not processes_of("killed-sweep")
    assert not processes_of("hit-sweep")


def trial_process(marker: str, within_s: float = 60.0) -> psutil.Process:
    """The process of the trial that goes on; a new one takes seconds to begin."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        found = [each for each in processes_of(marker) if "ResourceTrainable" in _title(each)]
        if found:
            return found[0]
        time.sleep(0.2)
    raise AssertionError(f"no trial has a process within {within_s:.0f} s")


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.mark.long
def test_a_trial_that_fails_is_one_of_many_and_a_good_rate_beats_bad_ones(tmp_path):
    longer = ("--data.shapes.num-train", "96", "--train.num-steps", "160")
    space = ("--space.optim.clip-lr", "grid(1e20, 1e-6, 1e-3, 1e-1)", "--search", "grid")
    named = ("--run-name", "rates", "--scheduler", "none", "--train.evals-per-run", "2")
    options = (*SMALL_SHAPES, *longer, *named)
    done = finish(start(tmp_path, *options, *space), timeout_s=600)
    assert done.status == 0, done.err
    failed, *trials = records(tmp_path, "rates")
    assert failed.status == "FAILED"
    assert "the loss is" in failed.reason
    assert [trial.status for trial in trials] == ["FINISHED"] * 3
    assert RANKING.ranked(trials)[0].values == {"optim.clip_lr": 1e-3}
    assert "rates-002, the best, tested once" in done.out
    assert "--optim.clip-lr 0.001" in done.out
    _, children = runs(tmp_path, "rates")
    assert [run.info.status for run in children] == ["FAILED", *["FINISHED"] * 3]
    assert "the loss is" in children[0].data.tags["reason"]

    none = ("--run-name", "none", "--max-failed-trials", "0", "--num-trials", "3")
    bad = ("--space.optim.clip-lr", "uniform(1e20, 1e21)")
    done = finish(start(tmp_path, *OPTIONS, *none, *bad), timeout_s=300)
    assert done.status == 1
    assert "1 trials failed, more than max_failed_trials 0; the last: none-000, " in done.err
    parent, (child,) = runs(tmp_path, "none")
    assert (parent.info.status, child.info.status) == ("FAILED", "FAILED")


@pytest.mark.long
def test_a_population_trains_in_rounds(tmp_path):
    named = ("--run-name", "population", "--num-trials", "2", "--scheduler", "pbt")
    space = ("--space.optim.clip-lr", "grid(1e-7, 1e-3)", "--search", "grid")
    process = start(tmp_path, *OPTIONS, *named, *space, "--pbt-rounds", "2")
    wait_for(process, "decoding: 68/68")
    done = finish(process, timeout_s=600)
    assert done.status == 0, done.err
    trials = records(tmp_path, "population")
    assert [trial.status for trial in trials] == ["FINISHED"] * 2
    assert sum(len(trial.copies) for trial in trials) == 1
    assert all([each.step for each in trial.evaluations] == [10, 20, 30] for trial in trials)
    decided = json.loads((tmp_path / "sweeps" / "population" / "population.json").read_text())
    assert len(decided) == 1
    _, children = runs(tmp_path, "population")
    assert {run.info.status for run in children} == {"FINISHED"}
    for index, copy in ((int(index), copy) for each in decided for index, copy in each.items()):
        assert copy["source"] == f"population-00{1 - index}"
        run = children[index]
        assert copy["source"] in run.data.tags[f"population.after_step_{copy['step']}"]
        history = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").get_metric_history(
            run.info.run_id, "train/lr_clip"
        )
        assert {point.step for point in history} >= set(range(1, 31))
        # the rate that a copy learns at, in the schedule's middle, is its own
        rates = {point.step: point.value for point in history}
        assert rates[copy["step"] + 1] <= copy["values"]["optim.clip_lr"]
        if copy["values"]["optim.clip_lr"] > 1e-7:
            assert rates[copy["step"] + 1] > 1e-7
    winner = RANKING.ranked(trials)[0]
    assert ("its learning rates changed on the way" in done.out) == bool(winner.copies)


def test_a_space_from_a_file_and_a_wish_beside_it(tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text("optim.clip_lr: loguniform(1e-4, 1e-3)\ndata.num_frames: choice(2, 4)\n")
    given = ("--space-file", str(file), "--space.data.num-frames=choice(3, 4)")
    refused = ("--train.num-workers", "8")  # after the space, before anything runs
    done = finish(start(tmp_path, *OPTIONS, *given, *refused))
    assert "need 5 CPUs" in done.err
    file.write_text("optim.clip_lr: loguniform(1e-4, -1)\n")
    done = finish(start(tmp_path, *OPTIONS, *given))
    assert "space.optim.clip_lr: 'loguniform(1e-4, -1)'" in done.err


def test_what_cannot_run_is_refused_at_the_start(tmp_path):
    for options, words in (
        (("--train.select-on", "test"), "would tune on it"),
        (("--train.num-workers", "8"), "need 5 CPUs, and the cluster has"),
        (("--scheduler", "pbt"), "cannot change; vary optim.clip_lr and optim.pooling_lr alone"),
        (("--train.checkpoints-dir", "s3://me:secret@bucket/runs"), "in the environment instead"),
        (("--resume", "nothing"), "there is no sweep 'nothing'"),
        (("--space.loss.temprature", "uniform(0.1, 1)"), "did you mean loss.temperature"),
        (("--space.data.num-frames",), "write one, as in choice(4, 8, 12)"),
        (("--space-file", str(tmp_path / "nowhere.yaml")), "cannot be read"),
        (("--num-trails", "3"), "did you mean --num-trials"),
    ):
        done = finish(start(tmp_path, *OPTIONS, *options))
        assert done.status == 1, done.out
        assert words in done.err
        assert done.err.count("\n") == 1
