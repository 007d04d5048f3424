"""What the record of a run costs: the logging of a step, and a server that is away for a minute."""

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import finish, start_job
from machine import machine_name
from mlflow.tracking import MlflowClient
from served_mlflow import ServedMlflow, served_mlflow

from xpool_platform.tracking.mlflow_store import MlflowStore

NUM_RUNS = int(os.environ.get("BENCH_RUNS", "3"))
NUM_STEPS = 700
AWAY_S = 60.0

STEPS = """
import json, sys, time
from pathlib import Path
import torch
from xpool.clip import build_tokenizer
from xpool.model import build_model
from xpool.optim import build_optimizer
from xpool_platform.experiments import experiment
from xpool_platform.tracking.journal_tracker import JournalTracker
from xpool_platform.train.step import global_batch_loss
from xpool_platform.train.step_log import StepLog

run_dir, uri, run_id, num_steps = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
torch.set_num_threads(1)
config = experiment("shapes")
model, tokenizer = build_model(config.model, config.loss), build_tokenizer(config.model)
optimizer = build_optimizer(model, config.optim)
size, batch = model.image_size, config.train.batch_size
frames = torch.randint(0, 256, (batch, config.data.num_frames, 3, size, size), dtype=torch.uint8)
tracker = JournalTracker(run_dir, "rank0", uri=uri, run_id=run_id)
tokens, log, logged, whole = tokenizer(["a red circle"] * batch), StepLog(), [], []
for step in range(1, num_steps + 1):
    start = time.perf_counter()
    optimizer.zero_grad()
    loss = global_batch_loss(
        model, tokens, frames, num_pairs=batch, rank=0, world_size=1
    )
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    rates = {f"train/lr_{group['name']}": group["lr"] for group in optimizer.param_groups}
    scale = model.logit_scale.detach().exp()
    row = {"train/loss": loss.detach(), "train/grad_norm": norm, "train/logit_scale": scale}
    log.add(row | rates, batch, 0.0)
    begun = time.perf_counter()
    if step % 10 == 0:
        tracker.log_metrics(log.read(step))
        log.restart()
    now = time.perf_counter()
    logged.append(now - begun)
    whole.append(now - start)
tracker.close()
print(json.dumps([sum(logged) / num_steps, sum(whole) / num_steps, max(logged)]))
"""


@pytest.fixture
def server(tmp_path) -> Iterator[ServedMlflow]:
    with served_mlflow(tmp_path / "served") as running:
        yield running


def test_logging_a_step(tmp_path, server, capsys) -> None:
    """In the worker: the time of its calls. In the driver: the CPU time of what it sends."""
    num_steps = 200
    with capsys.disabled():
        print(f"\n{machine_name()}; logging a step of `shapes`, medians of {NUM_RUNS} runs")
    for kind, uri in (("SQLite", f"sqlite:///{tmp_path}/mlflow.db"), ("server", server.uri)):
        store, found = MlflowStore(uri, "bench", tmp_path), []
        for run in range(NUM_RUNS):
            run_dir = tmp_path / kind / str(run)
            run_dir.mkdir(parents=True)
            tracker = store.start_run(f"{kind} {run}", run_dir, print)
            time.sleep(2)
            before = time.process_time()
            done = subprocess.run(
                [sys.executable, "-c", STEPS, run_dir, uri, tracker.run_id, str(num_steps)],
                capture_output=True,
                text=True,
                check=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
            tracker.finish("FINISHED")
            sent_s = (time.process_time() - before) / num_steps
            logged_s, step_s, longest_s = json.loads(done.stdout.splitlines()[-1])
            found.append((logged_s, sent_s, step_s, longest_s))
            history = MlflowClient(uri).get_metric_history(tracker.run_id, "train/loss")
            assert len(history) == num_steps
        logged_s, sent_s, step_s, longest_s = map(statistics.median, zip(*found, strict=True))
        with capsys.disabled():
            print(
                f"  {kind:8s} worker {1e3 * logged_s:.2f} ms, driver {1e3 * sent_s:.2f} ms of CPU, "
                f"of a step of {1e3 * step_s:.0f} ms: {100 * (logged_s + sent_s) / step_s:.2f} %; "
                f"longest call {1e3 * longest_s:.1f} ms"
            )


def test_a_server_that_is_away_for_a_minute(tmp_path, server, capsys) -> None:
    """The default experiment in peace, and with the server killed for a minute in the middle."""
    output, seconds = tmp_path / "out", {"in peace": [], "disturbed": []}
    prepared = train_tracked(output, server, "prepared", "--train.num-steps", "2")
    assert prepared > 0
    for run in range(NUM_RUNS):
        for kind, taken in seconds.items():
            taken.append(train_tracked(output, server, f"{kind} {run}", away=kind == "disturbed"))
    medians = {kind: statistics.median(taken) for kind, taken in seconds.items()}
    with capsys.disabled():
        print(f"\n{machine_name()}; `shapes`, server away for {AWAY_S:g} s, {NUM_RUNS} runs")
        for kind, taken in seconds.items():
            print(f"  {kind:10s} {medians[kind]:.0f} s of {', '.join(f'{s:.0f}' for s in taken)}")
        print(f"  ratio {medians['disturbed'] / medians['in peace']:.3f}")


def train_tracked(
    output: Path, server: ServedMlflow, name: str, *options: str, away: bool = False
) -> float:
    """The seconds of a run; all its steps are with the server once."""
    process = start_job(
        *("--output-dir", str(output), "--run-name", name, "--tracking.uri", server.uri, *options)
    )
    started = time.monotonic()
    if away:
        journals = output / "runs" / name / "tracking"
        while not any(b'"100"' in path.read_bytes() for path in journals.glob("*rank0*.jsonl")):
            assert process.poll() is None
            time.sleep(0.5)
        server.kill()
        back = threading.Timer(AWAY_S, server.start)
        back.start()
    done = finish(process, timeout_s=900)
    seconds = time.monotonic() - started
    assert done.status == 0, done.err
    if away:
        back.join()
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("shapes").experiment_id
    (run,) = client.search_runs([experiment], f"run_name = '{name}'")
    num_steps = int(run.data.params["train.num_steps"])
    for key in ("train/loss", "train/grad_norm", "train/lr_clip"):
        steps = [metric.step for metric in client.get_metric_history(run.info.run_id, key)]
        assert steps == list(range(1, num_steps + 1))
    assert run.info.status == "FINISHED"
    return seconds
