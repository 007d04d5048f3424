"""Runs that are killed at random moments until they reach their end."""

import random
import signal
import subprocess
import uuid
from pathlib import Path

from conftest import finish, processes_of, start_job
from watched_runs import assert_undisturbed, start, training_workers

from xpool_platform.checkpoint_files import check_whole, checkpoints_below

VICTIMS = "worker", "driver", "raylet", "SIGTERM"
MAX_WAIT_S = 35.0
"""A run that is left alone takes about as long, on two cores."""


def run_through_kills(output: Path, run_name: str, num_kills: int, seed: int) -> list[str]:
    """Kill a run so often, resume it each time, and compare what it became with `undisturbed`.

    Gives what was killed, and when. A run that ends before is left in peace.
    """
    draw = random.Random(seed)
    marker = uuid.uuid4().hex
    process = start(output, run_name, TEST_MARKER=marker)
    told = []
    for _ in range(num_kills):
        victim, after_s = draw.choice(VICTIMS), draw.uniform(0, MAX_WAIT_S)
        try:
            process.wait(after_s)
        except subprocess.TimeoutExpired:
            told.append(f"{victim} after {after_s:.0f} s")
        else:
            break
        if kill(victim, process, marker):
            finish(process)  # a raylet takes its driver along
            process = _again(output, run_name, marker)
    done = finish(process)
    assert done.status == 0, (told, done.err, done.out)
    assert_undisturbed(output, run_name)
    kept = checkpoints_below(str(output / "runs" / run_name / "checkpoints"))
    assert all(check_whole(location).step == step for step, location in kept.items())
    return told


def kill(victim: str, process: subprocess.Popen, marker: str) -> bool:
    """Whether the job is to be started again: it dies with everything but a worker."""
    if victim == "worker":
        workers = training_workers(marker)
        if workers:
            workers[0].kill()
        return False
    if victim == "raylet":
        raylets = [p for p in processes_of(marker) if p.name() == "raylet"]
        if raylets:
            raylets[0].kill()
            return True
    process.send_signal(signal.SIGTERM if victim == "SIGTERM" else signal.SIGKILL)
    return True


def _again(output: Path, run_name: str, marker: str) -> subprocess.Popen:
    if (output / "runs" / run_name / "metrics.json").is_file():  # killed after its end
        return subprocess.Popen(["true"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if not (output / "runs" / run_name / "run.json").is_file():  # killed before its beginning
        return start(output, run_name, TEST_MARKER=marker)
    return start_job("--resume", run_name, "--output-dir", str(output), TEST_MARKER=marker)
