"""What Ray costs a training: a step of the job against a bare torch loop over the same batches."""

import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import train
from machine import machine_name
from mlflow.tracking import MlflowClient
from ray.cluster_utils import Cluster

NUM_RUNS = int(os.environ.get("BENCH_RUNS", "3"))
NUM_STEPS = 300
OPTIONS = (
    *("--train.num-steps", str(NUM_STEPS), "--train.evals-per-run", "1"),
    *("--eval.num-resamples", "10", "--tracking.log-checkpoints", "False"),
)

BARE_LOOP = """
import json, statistics, sys, time
from pathlib import Path
import pyarrow.compute as pc
import torch
from xpool.clip import build_tokenizer
from xpool.model import build_model
from xpool.optim import build_optimizer, build_schedule
from xpool_platform.config_io import read_config
from xpool_platform.data.batches import load_row, worker_batches
from xpool_platform.data.decode import decode_manifest
from xpool_platform.data.feed import Feed
from xpool_platform.data.folder_manifest import folder_manifest
from xpool_platform.train.step import global_batch_loss

run_dir, store, num_threads = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
torch.set_num_threads(num_threads)
config = read_config(run_dir / "config.json")
(corpus,) = (run_dir.parents[1] / "corpora").iterdir()
manifest = folder_manifest(corpus)
videos = decode_manifest(manifest, config.data, store, lambda *_: None).videos
videos = videos.filter(pc.equal(videos["split"], "train"))
model = build_model(config.model, config.loss).train()
feed = Feed(
    frames_uris=videos["frames_uri"].to_pylist(), text_embeds_uris=None,
    num_available=videos["num_frames"].to_pylist(), captions=videos["captions"].to_pylist(),
    batch_size=config.train.batch_size, num_frames=config.data.num_frames,
    image_size=model.image_size, augment=config.data.augment, seed=config.train.seed,
    world_size=1, num_steps=config.train.num_steps,
)
row = load_row(feed, feed.plan(), range(60), 0)
batches = list(worker_batches(iter([row]), 0, feed.num_frames))
torch.set_num_threads(num_threads)
tokenizer = build_tokenizer(config.model)
optimizer = build_optimizer(model, config.optim)
schedule = build_schedule(optimizer, config.optim, feed.num_steps)
seconds = []
for step in range(feed.num_steps):
    batch = batches[step % len(batches)]
    start = time.perf_counter()
    optimizer.zero_grad()
    loss = global_batch_loss(
        model, tokenizer(batch.captions), batch.frames,
        num_pairs=batch.num_pairs, rank=0, world_size=1,
    )
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), config.optim.max_grad_norm)
    optimizer.step()
    schedule.step()
    model.clamp_logit_scale()
    seconds.append(time.perf_counter() - start)
print(json.dumps(statistics.median(seconds)))
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Ray with CPUs enough for two threads of training and one of loading."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4})
    yield cluster.address
    cluster.shutdown()


def step_seconds(output: Path, name: str, address: str, *options: str) -> tuple[float, float]:
    """The median step of a job, of the windows in which it logs its speed; and of the last eight,
    when all batches are loaded and nothing else computes."""
    done = train(
        *(*OPTIONS, *options, "--output-dir", str(output), "--run-name", name),
        RAY_ADDRESS=address,
    )
    assert done.status == 0, done.err
    client = MlflowClient(f"sqlite:///{output / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("shapes").experiment_id
    (run,) = client.search_runs([experiment], f"run_name = '{name}'")
    history = client.get_metric_history(run.info.run_id, "train/step_s")
    seconds = [metric.value for metric in sorted(history, key=lambda metric: metric.step)]
    return statistics.median(seconds[2:]), statistics.median(seconds[-8:])


def bare_seconds(run_dir: Path, store: Path, num_threads: int) -> float:
    """The median step of the bare loop, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", BARE_LOOP, run_dir, store, str(num_threads)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    seconds: float = json.loads(done.stdout.splitlines()[-1])
    return seconds


def test_a_step(tmp_path, address, capsys) -> None:
    """One worker of one thread and of two, two workers of one, and the loop without Ray."""
    kinds = {
        "one worker, one thread": ("--train.num-workers", "1", "--train.cpus-per-worker", "1"),
        "one worker, two threads": ("--train.num-workers", "1", "--train.cpus-per-worker", "2"),
        "two workers, one thread": ("--train.num-workers", "2", "--train.cpus-per-worker", "1"),
    }
    taken: dict[str, list[float]] = defaultdict(list)
    for run in range(NUM_RUNS):
        for kind, options in kinds.items():
            name = f"{kind} {run}"
            whole, at_end = step_seconds(tmp_path, name, address, *options)
            taken[kind].append(whole)
            taken[f"{kind}, loaded"].append(at_end)
        (store,) = (tmp_path / "frames").iterdir()
        taken["bare, one thread"].append(bare_seconds(tmp_path / "runs" / name, store, 1))
    with capsys.disabled():
        print(f"\n{machine_name()}; a step of `shapes`, medians of {NUM_RUNS} runs")
        for kind, seconds in taken.items():
            listed = ", ".join(f"{1000 * value:.1f}" for value in seconds)
            print(f"  {kind:32s} {1000 * statistics.median(seconds):7.1f} ms of {listed}")
