"""What clusters do to a training: it goes on with the same steps, each of them logged once."""

import contextlib
import os
import random
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest
from conftest import finish, mounted_disk, train
from random_kills import run_through_kills
from watched_runs import (
    NUM_STEPS,
    OPTIONS,
    assert_undisturbed,
    metrics,
    read_until_step,
    resume,
    start,
    training_workers,
)

from object_store import served_bucket
from xpool_platform.checkpoint_files import check_whole, checkpoints_below

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    """The folder of an undisturbed run, `undisturbed`, and of all the others."""
    folder = tmp_path_factory.mktemp("faults")
    done = train(*OPTIONS, "--output-dir", str(folder), "--run-name", "undisturbed")
    assert done.status == 0, done.err
    return folder


def test_a_killed_worker(output):
    process = start(output, "worker", TEST_MARKER="killed-worker")
    read_until_step(process, 40)
    training_workers("killed-worker")[-1].kill()
    done = finish(process)
    assert done.status == 0, done.err
    assert "training was interrupted" in done.out
    assert "going on from step" in done.out
    assert_undisturbed(output, "worker")


def test_a_killed_driver(output):
    process = start(output, "driver")
    read_until_step(process, 40)
    process.kill()
    process.wait()
    # Ray's own files as a full disk leaves them: Ray could not go on from them
    run_dir = output / "runs" / "driver"
    (left,) = run_dir.glob("ray_train/attempt-*")
    for name in ("checkpoint_manager_snapshot.json", ".validate_storage_marker"):
        (left / name).write_bytes(b"")
    refused = start(output, "driver")
    assert "is used already" in finish(refused).err
    done = resume(output, "driver")
    assert done.status == 0, done.err
    assert "going on from step" in done.out
    assert_undisturbed(output, "driver")
    assert not (run_dir / "ray_train").exists()
    again = resume(output, "driver")
    assert again.status == 1
    assert "run 'driver' is finished" in again.err


@pytest.mark.long
def test_a_job_runs_alone_under_its_name_and_leaves_a_checkpoint_when_told_to_end(output):
    name = "told to end"
    process = start(output, name, "--train.checkpoint-steps", str(NUM_STEPS))
    read_until_step(process, 30)
    second = resume(output, name)
    assert second.status == 1
    assert f"is running already (process {process.pid} on " in second.err
    time.sleep(random.random())  # the signal may come wherever the driver is
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    done = finish(process)
    assert time.monotonic() - started < 20
    assert done.status == 130
    assert "goes on from here" in done.out
    saved = max(int(p.name[5:]) for p in (output / "runs" / name / "checkpoints").iterdir())
    assert saved >= 30
    assert saved % (NUM_STEPS // 2)  # it is not that of an evaluation
    done = resume(output, name)
    assert done.status == 0, done.err
    assert f"going on from step {saved}" in done.out
    assert_undisturbed(output, name)


@pytest.mark.long
def test_kills_at_random_moments(output):
    assert run_through_kills(output, "killed at random", num_kills=5, seed=24)


@pytest.mark.long
def test_damaged_checkpoints_are_passed_over_and_never_taken_for_none(output):
    process = start(output, "damaged", "--train.keep-last", "3", TEST_MARKER="killed-job")
    read_until_step(process, 60)
    process.kill()
    process.wait()
    workers = training_workers("killed-job")
    psutil.wait_procs(workers, timeout=60)  # until then they may write another checkpoint
    manifests = (output / "runs" / "damaged" / "checkpoints").glob("step_*/manifest.json")
    *_, before, newest = sorted(path.parent for path in manifests)
    states = {path: path.read_bytes() for path in newest.parent.glob("step_*/state.json")}
    for path in states:
        path.write_text("{")
    refused = resume(output, "damaged")
    assert refused.status == 1
    assert "no checkpoint in" in refused.err
    assert "train under another --run-name" in refused.err
    for path, content in states.items():
        path.write_bytes(content)
    path = newest / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    done = resume(output, "damaged")
    assert done.status == 0, done.err
    assert f"passed over: {path} is not what was written: its hash differs" in done.out
    assert f"going on from step {int(before.name.removeprefix('step_'))}" in done.out
    assert_undisturbed(output, "damaged")


@pytest.mark.long
def test_a_frozen_worker_is_named_and_replaced(output):
    process = start(output, "frozen", "--train.step-timeout-s", "12", TEST_MARKER="frozen-worker")
    read_until_step(process, 40)
    worker = training_workers("frozen-worker")[-1]
    os.kill(worker.pid, signal.SIGSTOP)
    done = finish(process)
    assert done.status == 0, done.err
    assert "no step for 12 s (train.step_timeout_s): rank" in done.out
    assert f"process {worker.pid}, frozen" in done.out
    assert_undisturbed(output, "frozen")


@pytest.mark.long
def test_a_loss_that_is_no_number(output):
    wild = ("--optim.clip-lr", "1e20", "--optim.warmup-fraction", "0.3")
    done = finish(start(output, "nan", *wild))
    assert done.status == 1
    assert "the loss is nan" in done.err
    assert "learning rates: clip " in done.err
    assert done.err.count("videos: ") == 1
    skipping = finish(start(output, "skipping", *wild, "--train.on-nan", "skip"))
    assert skipping.status == 1
    assert "the model cannot be evaluated after step 100" in skipping.err


@pytest.fixture
def small_disk(tmp_path):
    """A disk that holds three checkpoints."""
    yield from mounted_disk(tmp_path, 40)


@pytest.mark.long
def test_a_full_disk_costs_no_checkpoint_that_was_there(output, small_disk):
    options = ("--train.checkpoints-dir", str(small_disk))
    process = start(output, "disk", *options)
    read_until_step(process, 30)
    ballast = small_disk / "ballast"
    with contextlib.suppress(OSError):  # a checkpoint may be on its way
        ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free))
    done = finish(process)
    assert done.status == 1
    assert "no space left on the device" in done.err
    kept = checkpoints_below(str(small_disk / "disk"))
    assert kept
    assert all(check_whole(location).step == step for step, location in kept.items())
    ballast.unlink()
    done = resume(output, "disk")
    assert done.status == 0, done.err
    assert f"going on from step {max(kept)}" in done.out
    assert_undisturbed(output, "disk")


@pytest.mark.long
def test_checkpoints_in_an_object_store(output):
    with served_bucket("runs") as uri:
        process = start(output, "bucket", "--train.checkpoints-dir", uri)
        read_until_step(process, 60)
        process.kill()
        process.wait()
        done = resume(output, "bucket")
        assert done.status == 0, done.err
        assert "going on from step" in done.out
        assert_undisturbed(output, "bucket")
        kept = checkpoints_below(f"{uri}/bucket")
        assert max(kept) == NUM_STEPS
        assert all(check_whole(location).step == step for step, location in kept.items())
    assert not (output / "runs" / "bucket" / "checkpoints").exists()


@pytest.mark.long
def test_a_run_begins_with_the_weights_of_another(output):
    options = ("--init-from", "undisturbed", "--optim.clip-lr", "0", "--optim.pooling-lr", "0")
    done = finish(start(output, "from", *options, "--train.num-steps", "2"))
    assert done.status == 0, done.err
    assert metrics(output, "from") == metrics(output, "undisturbed")
