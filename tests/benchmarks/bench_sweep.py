"""Sweeps: the default one's time, what ASHA saves, and kills at random moments."""

import os
import random
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from conftest import SMALL_SHAPES, finish, processes_of
from machine import machine_name
from mlflow.tracking import MlflowClient
from random_kills import VICTIMS, kill
from test_tune_job import OPTIONS, RANKING, records, runs, start

NUM_KILLS = int(os.environ.get("SWEEP_KILLS", "20"))
LONGEST_S = 35.0
GRID = (
    *SMALL_SHAPES,
    *("--data.shapes.num-train", "192", "--data.shapes.num-val", "32", "--train.batch-size", "16"),
    *("--train.num-steps", "240", "--train.evals-per-run", "8", "--search", "grid"),
    *("--space.optim.clip-lr", "grid(1e-5, 1e-4, 1e-3, 1e-2)"),
    *("--space.loss.temperature", "grid(0.02, 0.07, 0.2)"),
)
"""Twelve points of a small experiment."""


def trained_s(output: Path, run_id: str) -> float:
    """The time of a run's steps."""
    client = MlflowClient(f"sqlite:///{output / 'mlflow.db'}")
    windows = client.get_metric_history(run_id, "train/step_s")
    steps, before = 0.0, 0
    for window in sorted(windows, key=lambda each: each.step):
        steps += window.value * (window.step - before)
        before = window.step
    return steps


def first_step_s(output: Path, run_id: str) -> float:
    """When a run's first steps were done, by the clock."""
    client = MlflowClient(f"sqlite:///{output / 'mlflow.db'}")
    windows = client.get_metric_history(run_id, "train/step_s")
    first = min(windows, key=lambda each: each.step)
    return first.timestamp / 1000 - first.step * first.value


@pytest.mark.timeout(3600)
def test_default_sweep(tmp_path, capsys):
    began_s = time.time()
    done = finish(start(tmp_path, "--run-name", "default"), timeout_s=1800)
    assert done.status == 0, done.err
    parent, children = runs(tmp_path, "default")
    before = children[0].info.start_time / 1000 - began_s
    waits = [
        first_step_s(tmp_path, run.info.run_id) - run.info.start_time / 1000 for run in children
    ]
    steps = [trained_s(tmp_path, run.info.run_id) for run in children]
    after = parent.info.end_time / 1000 - max(run.info.end_time for run in children) / 1000
    own = sum(steps) + sum(waits) + before
    stopped = sum(trial.status == "STOPPED" for trial in records(tmp_path, "default"))
    with capsys.disabled():
        print(
            f"\n8 trials of shapes, ASHA, {machine_name()}: {done.seconds:.0f} s, {stopped} early"
        )
        print(f"  until the first trial {before:.0f} s, after the last {after:.0f} s")
        print(f"  starts of the trials {sum(waits):.0f} s: {', '.join(f'{s:.0f}' for s in waits)}")
        print(f"  their steps {sum(steps):.0f} s: {', '.join(f'{s:.0f}' for s in steps)}")
        print(f"  the whole is {done.seconds / own:.2f} times steps and starts")


@pytest.mark.timeout(3600)
def test_asha_against_the_grid(tmp_path, capsys):
    needed, best = {}, {}
    for scheduler in ("none", "asha"):
        named = ("--run-name", scheduler, "--scheduler", scheduler)
        done = finish(start(tmp_path, *GRID, *named), timeout_s=1800)
        assert done.status == 0, done.err
        trials = records(tmp_path, scheduler)
        needed[scheduler] = sum(trial.evaluations[-1].step for trial in trials)
        best[scheduler] = RANKING.ranked(trials)[0]
    with capsys.disabled():
        print(f"\ngrid of {len(trials)}: {needed['none']} steps, best {best['none'].values}")
        print(f"ASHA: {needed['asha']} steps, {needed['asha'] / needed['none']:.2f} of the grid's")
    assert best["asha"].values == best["none"].values
    assert needed["asha"] <= needed["none"] / 2


@pytest.mark.timeout(2 * 3600)
def test_kills(tmp_path, capsys):
    named = ("--num-trials", "4", "--train.checkpoint-steps", "5")
    done = finish(start(tmp_path, *OPTIONS, *named, "--run-name", "peace"), timeout_s=600)
    assert done.status == 0, done.err
    peace = records(tmp_path, "peace")
    draw, killed, sweep = random.Random(0), Counter[str](), 0
    while killed.total() < NUM_KILLS:
        name, marker = f"killed-{sweep}", f"sweep-{os.getpid()}-{sweep}"
        sweep += 1
        anew = (*OPTIONS, *named, "--run-name", name)
        process = start(tmp_path, *anew, TEST_MARKER=marker)
        while killed.total() < NUM_KILLS:
            try:
                process.wait(draw.uniform(0, LONGEST_S))
                break
            except subprocess.TimeoutExpired:
                victim = draw.choice(VICTIMS)
                killed[victim] += 1
            if kill(victim, process, marker):
                finish(process)  # a raylet takes its driver along
                if (tmp_path / "sweeps" / name / "finished").is_file():
                    break
                begun = (tmp_path / "sweeps" / name / "run.json").is_file()
                again = ("--resume", name) if begun else anew
                process = start(tmp_path, *again, TEST_MARKER=marker)
        if not (tmp_path / "sweeps" / name / "finished").is_file():
            done = finish(process, timeout_s=600)
            assert done.status == 0, done.err
        assert [each.values for each in records(tmp_path, name)] == [each.values for each in peace]
        parent, children = runs(tmp_path, name)
        assert [run.info.run_name for run in children] == [f"{name}-00{i}" for i in range(4)]
        assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
        assert not processes_of(marker)
    with capsys.disabled():
        print(f"\n{sweep} sweeps of 4 trials, the same trials each, one run a trial, through")
        print(f"{dict(killed)}")
