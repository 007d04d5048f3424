"""Short runs that are disturbed, and what became of them."""

import json
import subprocess
from pathlib import Path

import psutil
import pytest
from conftest import SMALL_SHAPES, Done, processes_of, start_job, train
from mlflow.tracking import MlflowClient

NUM_STEPS = 200
OPTIONS = (
    *(*SMALL_SHAPES, "--train.num-steps", str(NUM_STEPS), "--train.evals-per-run", "2"),
    *("--train.checkpoint-steps", "25", "--model.dropout", "0.3"),
)
"""Dropout is on: what goes on has to draw the same random numbers."""


def losses(
    output: Path, run_name: str, num_steps: int = NUM_STEPS, experiment: str = "shapes"
) -> list[float]:
    """The losses of a run, which has each step once and no other."""
    client = MlflowClient(f"sqlite:///{output / 'mlflow.db'}")
    experiment_id = client.get_experiment_by_name(experiment).experiment_id
    (run,) = client.search_runs([experiment_id], f"run_name = '{run_name}'")
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "train/loss")
    history = sorted(history, key=lambda metric: metric.step)
    assert [metric.step for metric in history] == list(range(1, num_steps + 1))
    return [metric.value for metric in history]


def metrics(output: Path, run_name: str) -> dict:
    return json.loads((output / "runs" / run_name / "metrics.json").read_text())["metrics"]


def assert_undisturbed(output: Path, run_name: str) -> None:
    assert losses(output, run_name) == pytest.approx(losses(output, "undisturbed"), abs=1e-6)
    assert metrics(output, run_name) == metrics(output, "undisturbed")


def start(output: Path, run_name: str, *options: str, **changes: str) -> subprocess.Popen:
    return start_job(
        *OPTIONS, "--output-dir", str(output), "--run-name", run_name, *options, **changes
    )


def resume(output: Path, run_name: str, *options: str) -> Done:
    return train("--resume", run_name, "--output-dir", str(output), *options)


def read_until_step(process: subprocess.Popen, step: int) -> str:
    """What the job printed until it had done so many steps."""
    text = ""
    for line in process.stdout:
        text += line
        counts = line.startswith("training: ") and "pairs/s" in line
        if counts and int(line.split()[1].split("/")[0]) >= step:
            return text
    raise AssertionError(f"the job ended before step {step}: {process.stderr.read()}")


def training_workers(marker: str) -> list[psutil.Process]:
    return [p for p in processes_of(marker) if "RayTrainWorker" in " ".join(p.cmdline())]
