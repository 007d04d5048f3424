"""From `python jobs/demo.py` to the first page, after a training: make bench ARGS="-k demo"."""

import os
import signal
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from machine import machine_and_load

from free_port import free_port

ROOT = Path(__file__).parents[2]
NUM_RUNS = int(os.environ.get("BENCH_RUNS", "3"))
FEW_STEPS = ("--train.num-steps", "20", "--train.evals-per-run", "1", "--eval.num-figures", "0")
"""The model of the default experiment, with all its videos; what it has learnt takes no time."""


def run(*command: str, output: Path) -> subprocess.Popen[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "XPOOL_"))}
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**kept, "XPOOL_OUTPUT_DIR": str(output)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def seconds_to_first_page(output: Path, checkpoint: str) -> float:
    port = free_port()
    start = time.perf_counter()
    job = run("jobs/demo.py", "--port", str(port), "--checkpoint", checkpoint, output=output)
    try:
        while job.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as page:
                    assert b"<form" in page.read()
                    return time.perf_counter() - start
            except (urllib.error.URLError, TimeoutError, ConnectionError):
                time.sleep(0.05)
        raise AssertionError("the demo ended")
    finally:
        job.send_signal(signal.SIGTERM)
        job.wait(timeout=120)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_demo(tmp_path, capsys):
    output = tmp_path / "outputs"
    training = run("jobs/train.py", "--run-name", "trained", *FEW_STEPS, output=output)
    assert training.wait(timeout=1200) == 0
    with_index, there = [], []
    for _ in range(NUM_RUNS):
        for path in (output / "search").glob("*/index.json"):
            path.unlink()
        for segment in (output / "search").glob("*/segments/*/segment.json"):
            segment.unlink()  # else it would be found again
        with_index.append(seconds_to_first_page(output, "trained"))
        there.append(seconds_to_first_page(output, "trained"))
    with capsys.disabled():
        print(f"\nfirst page of the demo, on {machine_and_load()}")
        for name, values in (("with the index to make", with_index), ("with the index", there)):
            each = ", ".join(f"{value:.1f}" for value in values)
            print(f"  {name:22} {statistics.median(values):5.1f} s of {each}")
