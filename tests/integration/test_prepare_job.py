"""jobs/prepare.py as a user runs it, and what killing it leaves; the cache of frozen towers."""

import contextlib
import json
import os
import random
import signal
import time
from pathlib import Path

import psutil
import pytest
from conftest import SMALL_SHAPES, finish, processes_of, start_job, train
from mlflow.tracking import MlflowClient

from object_store import served_bucket
from videos import write_video
from xpool_platform.locations import files_below, read_whole, write_whole

pytestmark = pytest.mark.ray


def prepare(*arguments: str, **changes: str):
    return finish(start_job(*arguments, script="jobs/prepare.py", **changes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("own videos")
    for i in range(30):
        write_video(folder / f"{i}.mp4", 63 + 7 * i)
    lines = [f"{i}.mp4,caption {i}\n" for i in range(30)]
    (folder / "captions.csv").write_text("video,caption\n" + "".join(lines))
    return folder


def contents(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.rglob("*.parquet")}


def test_a_store_is_filled_listed_and_pruned(folder, tmp_path):
    (folder / "captions.csv").touch()
    arguments = ("clips", "--data.root", str(folder), "--output-dir", str(tmp_path))
    first = prepare(*arguments)
    assert first.status == 0, first.err
    assert "decoded 30 videos, 0 were there already" in first.out
    assert "30 │       30 │  0.07" in first.out
    again = prepare(*arguments)
    assert "decoded 0 videos, 30 were there already" in again.out
    listed = prepare("--list", "--output-dir", str(tmp_path))
    assert "1 frame stores" in listed.out
    assert "clips" in listed.out
    kept = prepare("--prune", "--output-dir", str(tmp_path))
    assert "0 frame stores, 0.0 MiB, removed from" in kept.out
    assert len(contents(tmp_path / "frames")) == 30
    gone = prepare("--prune", "--unused-days", "0", "--output-dir", str(tmp_path))
    assert "1 frame stores" in gone.out.splitlines()[0]
    assert contents(tmp_path / "frames") == {}


def test_videos_of_an_object_store_give_the_frames_of_local_ones(folder, tmp_path):
    local = prepare("clips", "--data.root", str(folder), "--output-dir", str(tmp_path / "local"))
    assert local.status == 0, local.err
    with served_bucket("lab") as uri:
        for path in sorted(folder.iterdir()):
            write_whole(f"{uri}/videos/{path.name}", path.read_bytes())
        remote = prepare(
            *("clips", "--data.root", f"{uri}/videos/", "--output-dir", str(tmp_path / "remote")),
            XPOOL_FRAMES_DIR=f"{uri}/frames",
        )
        assert remote.status == 0, remote.err
        assert "decoded 30 videos, 0 were there already" in remote.out
        assert "30 │       30 │  0.07" in remote.out
        stored = [info for info in files_below(f"{uri}/frames") if info.path.endswith(".parquet")]
        found = sorted(bytes(read_whole(f"s3://{info.path}")) for info in stored)
    assert found == sorted(contents(tmp_path / "local" / "frames").values())
    assert not (tmp_path / "remote" / "frames").exists()


def test_videos_that_cannot_be_decoded_are_listed_in_a_file(folder, tmp_path):
    import pyarrow.parquet as pq

    for path in folder.glob("?.mp4"):
        os.link(path, tmp_path / path.name)
    (tmp_path / "a.mp4").write_text("<html>")
    (tmp_path / "captions.csv").write_text(
        "video,caption,split\na.mp4,a page,train\n"
        + "".join(f"{i}.mp4,{i},val\n" for i in range(9))
    )
    done = prepare(
        *("clips", "--data.root", str(tmp_path), "--output-dir", str(tmp_path / "out")),
        *("--data.max-bad-fraction", "0.2"),
    )
    assert done.status == 0, done.err
    assert "left out 1 of 10 videos:\n  a.mp4: not-a-video" in done.out
    errors = tmp_path / "out" / "prepared" / "clips" / "errors.parquet"
    assert str(errors) in done.out
    assert pq.read_table(errors)["video_id"].to_pylist() == ["a.mp4"]


@pytest.mark.slow
def test_a_job_that_is_killed_again_and_again_ends_with_the_store_of_one_left_in_peace(
    folder, tmp_path
):
    def options(out: str) -> tuple[str, ...]:
        return "clips", "--data.root", str(folder), "--output-dir", str(tmp_path / out)

    assert prepare(*options("peace")).status == 0
    peace = contents(tmp_path / "peace" / "frames")
    rng = random.Random(0)
    for i in range(4):
        marker = f"killed-{i}-{tmp_path.name}"
        process = start_job(*options("war"), script="jobs/prepare.py", TEST_MARKER=marker)
        while "decoding: 0/" not in process.stdout.readline():
            assert process.poll() is None
        time.sleep(rng.uniform(0.5, 6))
        for one in processes_of(marker):  # the driver, Ray's processes, workers, decoders
            one.send_signal(signal.SIGKILL)
        process.communicate()
        there = contents(tmp_path / "war" / "frames")
        assert all(peace[name] == content for name, content in there.items())
    assert prepare(*options("war")).status == 0
    assert contents(tmp_path / "war" / "frames") == peace


@pytest.mark.slow
def test_a_worker_that_is_killed_while_it_decodes_costs_nothing(folder, tmp_path):
    marker = f"worker-{tmp_path.name}"
    process = start_job(
        *("clips", "--data.root", str(folder), "--output-dir", str(tmp_path)),
        script="jobs/prepare.py",
        TEST_MARKER=marker,
    )
    while "decoding: 0/" not in process.stdout.readline():
        assert process.poll() is None
    killed = 0
    deadline = time.monotonic() + 60
    while not killed and process.poll() is None and time.monotonic() < deadline:
        for one in processes_of(marker):
            with contextlib.suppress(psutil.NoSuchProcess):  # others end by themselves
                if any("decode_child" in " ".join(c.cmdline()) for c in one.children()):
                    one.kill()  # the Ray worker above the decoder
                    killed += 1
                    break
        time.sleep(0.05)
    done = finish(process)
    assert killed == 1
    assert done.status == 0, done.err
    assert "decoded 30 videos" in done.out
    assert len(contents(tmp_path / "frames")) == 30


@pytest.mark.slow
@pytest.mark.long
def test_frozen_towers_learn_the_same_with_and_without_the_cache(tmp_path):
    losses, tables = [], []
    for cached in ("True", "False"):
        done = train(
            *(*SMALL_SHAPES, "--output-dir", str(tmp_path), "--run-name", f"cached-{cached}"),
            *("--optim.clip-lr", "0", "--optim.pooling-lr", "3e-3"),
            *("--data.cache-embeds", cached),
        )
        assert done.status == 0, done.err
        assert ("embedding: 68/68" in done.out) == (cached == "True")
        client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("shapes").experiment_id
        (run,) = client.search_runs([experiment], f"run_name = 'cached-{cached}'")
        history = client.get_metric_history(run.info.run_id, "train/loss")
        losses.append([metric.value for metric in sorted(history, key=lambda m: m.step)])
        tables.append(
            json.loads((tmp_path / "runs" / f"cached-{cached}" / "metrics.json").read_text())
        )
    assert len(losses[0]) == 12
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0][-1] != pytest.approx(losses[0][0], rel=1e-3)
    assert tables[0]["metrics"] == tables[1]["metrics"]


@pytest.mark.slow
@pytest.mark.long
def test_a_run_that_keeps_no_frames_learns_from_the_videos_themselves(tmp_path):
    losses = []
    for cache in ("none", "frames"):
        done = train(
            *(*SMALL_SHAPES, "--output-dir", str(tmp_path), "--run-name", cache),
            *("--data.cache", cache),
        )
        assert done.status == 0, done.err
        assert "decoding: 68/68" in done.out
        assert (tmp_path / "frames").exists() == (cache == "frames")
        client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("shapes").experiment_id
        (run,) = client.search_runs([experiment], f"run_name = '{cache}'")
        history = client.get_metric_history(run.info.run_id, "train/loss")
        losses.append([metric.value for metric in sorted(history, key=lambda m: m.step)])
    assert len(losses[0]) == 12
    assert losses[0] == pytest.approx(losses[1], rel=0.02)  # apart by what JPEG does to pixels
    assert losses[0] != losses[1]


def test_nothing_is_prepared_for_a_run_that_keeps_no_frames(tmp_path):
    done = prepare("shapes", "--data.cache", "none", "--output-dir", str(tmp_path))
    assert done.status == 1
    assert "data.cache none keeps no frames" in done.err
