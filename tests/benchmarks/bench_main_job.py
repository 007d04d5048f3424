"""Wall time of the main job, from nothing and with the corpus made: [BENCH_RUNS=3] make bench."""

import os
import shutil
import statistics

from conftest import train
from machine import machine_name

NUM_RUNS = int(os.environ.get("BENCH_RUNS", "3"))


def test_main_job(tmp_path, capsys):
    seconds: dict[str, list[float]] = {"from nothing": [], "again": []}
    for i in range(NUM_RUNS):
        output = tmp_path / str(i)
        for kind, times in seconds.items():
            done = train("--output-dir", str(output), "--run-name", kind, timeout_s=900)
            assert done.status == 0, done.err
            times.append(done.seconds)
        shutil.rmtree(output)
    with capsys.disabled():
        print(f"\nmain job on {machine_name()}, start of Ray included")
        for kind, times in seconds.items():
            listed = ", ".join(f"{value:.0f}" for value in times)
            print(f"  {kind}: median {statistics.median(times):.0f} s of {listed}")
