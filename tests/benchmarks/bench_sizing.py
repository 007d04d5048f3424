"""The figures of docs/sizing.md and docs/ten_million.md: what a video, a step, a million cost."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch
from bench_loading import feed_of, manifest_of
from conftest import SMALL_SHAPES, finish, start_job
from cpu_time import cpu_and_wall
from h264_clips import make_clips
from machine import machine_and_load

from xpool.clip import build_tokenizer
from xpool.config import LossConfig, ModelConfig, OptimConfig
from xpool.model import build_model
from xpool.optim import build_optimizer
from xpool_platform.data.batches import load_row
from xpool_platform.data.decode_guard import DecodeGuard
from xpool_platform.data.frame_store import frames_uri, stored_video, write_frames
from xpool_platform.data.video import FrameSettings
from xpool_platform.data_config import DataConfig
from xpool_platform.train.utilisation import step_flops

NUM_RUNS = int(os.environ.get("BENCH_RUNS", "5"))
COUNTS = [int(count) for count in os.environ.get("BENCH_COUNTS", "100000").split(",")]
"""Videos of the corpus that the driver is given."""

REAL = Path(__file__).parents[3] / "shared" / "clips"
VIDEOS = Path(os.environ.get("BENCH_VIDEOS", REAL))
"""Real videos, if there are any: a folder."""

SUFFIXES = (".avi", ".mkv", ".mov", ".mp4", ".webm")
CAPTIONS_PER_VIDEO = 20


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> dict[str, list[Path]]:
    """Real videos where there are some, and made ones of two sizes."""
    folder = tmp_path_factory.mktemp("made")
    found = {
        f"made, {size[1]}p": make_clips(folder / str(size[1]), 4, size=size, seconds=(10, 30))
        for size in ((320, 240), (1280, 720))
    }
    if VIDEOS.is_dir():
        real = sorted(path for path in VIDEOS.iterdir() if path.suffix in SUFFIXES)
        found = {f"{len(real)} real videos": real, **found}
    return found


@pytest.fixture
def _one_core() -> Iterator[None]:
    """For this process and the guard's child."""
    before = psutil.Process().cpu_affinity()
    psutil.Process().cpu_affinity(before[:1])
    torch.set_num_threads(1)
    yield
    psutil.Process().cpu_affinity(before)


@pytest.mark.usefixtures("_one_core")
def test_sizing_of_the_first_pass(corpora, tmp_path, capsys) -> None:
    """Decoding into the store with the default settings, guarded, one video after another."""
    settings = FrameSettings.of(DataConfig(root="-"))
    guard = DecodeGuard(deadline_s=120, memory_bytes=4 * 2**30)

    def fill(paths: list[Path], store: str) -> None:
        for path in paths:
            write_frames(frames_uri(store, path.stem), guard.encode(str(path), settings))

    with capsys.disabled():
        print(f"\n{machine_and_load()}; decoding into the store, one core, medians of {NUM_RUNS}")
        for name, paths in corpora.items():
            fill(paths, str(tmp_path / name / "warm"))
            stores = [str(tmp_path / name / str(run)) for run in range(NUM_RUNS)]
            seconds, wall = cpu_and_wall([partial(fill, paths, store) for store in stores])
            uris = [frames_uri(stores[0], path.stem) for path in paths]
            videos = [stored_video(uri) for uri in uris]
            hours = sum(video.duration_s for video in videos) / 3600
            num_bytes = sum(Path(uri).stat().st_size for uri in uris)
            frames = sum(video.num_frames for video in videos)
            print(
                f"  {name:16s} {len(paths)} of {3600 * hours / len(paths):.1f} s in the mean: "
                f"{len(paths) / seconds:.2f} videos a CPU second ({len(paths) / wall:.2f} of the "
                f"clock), {3600 * hours / seconds:.0f} s of video, "
                f"store {num_bytes / hours / 1e6:.0f} MB an hour, {num_bytes / frames / 1e3:.1f} "
                f"kB a frame, {num_bytes / len(paths) / 1e3:.0f} kB a video; files "
                f"{sum(path.stat().st_size for path in paths) / hours / 1e6:.0f} MB an hour"
            )
    guard.close()


@pytest.mark.usefixtures("_one_core")
def test_sizing_of_a_later_epoch(corpora, tmp_path, capsys) -> None:
    """Read, decode 12 JPEGs, crop and resize: what a loading task does with its core."""
    settings = FrameSettings.of(DataConfig(root="-"))
    guard = DecodeGuard(deadline_s=120, memory_bytes=4 * 2**30)
    with capsys.disabled():
        print(
            f"\n{machine_and_load()}; clips from the store, one core, medians of {NUM_RUNS} epochs"
        )
        for name, paths in corpora.items():
            uris = [frames_uri(str(tmp_path / name), path.stem) for path in paths]
            for path, uri in zip(paths, uris, strict=True):
                write_frames(uri, guard.encode(str(path), settings))
            videos = manifest_of(paths, CAPTIONS_PER_VIDEO)
            videos = videos.append_column("frames_uri", [uris])
            counts = [stored_video(uri).num_frames for uri in uris]
            feed = feed_of(videos.append_column("num_frames", [counts]), num_steps=10**6)
            plan = feed.plan()
            load_row(feed, plan, range(1), 0)
            epochs = [
                range(run * plan.batches_per_epoch, (run + 1) * plan.batches_per_epoch)
                for run in range(NUM_RUNS)
            ]
            seconds, wall = cpu_and_wall([partial(load_row, feed, plan, e, 0) for e in epochs])
            row = load_row(feed, plan, range(1), 0)
            pairs = row["num_own"][0].as_py()[0]
            print(
                f"  {name:16s} {plan.num_pairs / seconds:.0f} clips a CPU second "
                f"({plan.num_pairs / wall:.0f} of the clock), "
                f"{len(row['frames'][0].as_buffer()) / pairs:.0f} bytes a clip"
            )
    guard.close()


def test_sizing_of_a_model(capsys) -> None:
    """ViT-B/32 with X-Pool: what is kept, and what a pair needs."""
    config = ModelConfig(clip_name="ViT-B-32")
    model = build_model(config, LossConfig())
    weights = sum(parameter.numel() for parameter in model.parameters())
    optimizer = build_optimizer(model, OptimConfig())
    learnt = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    flops = step_flops(model, build_tokenizer(config), batch_size=32, num_frames=12)
    with capsys.disabled():
        print(
            f"\n{config.clip_name}: {weights / 1e6:.1f} million parameters, "
            f"{4 * weights / 1e6:.0f} MB of weights, {8 * learnt / 1e6:.0f} MB of the optimiser's; "
            f"a step of 32 pairs of 12 frames {flops / 1e12:.2f} TFLOP, "
            f"{flops / 32 / 1e9:.0f} GFLOP a pair"
        )


def test_sizing_of_a_record(tmp_path, capsys) -> None:
    """A small training's journal and MLflow's file, by steps."""
    found = {}
    for steps in (20, 220):
        output = tmp_path / str(steps)
        number = ("--train.num-steps", str(steps), "--run-name", "sized")
        done = finish(start_job(*SMALL_SHAPES, *number, "--output-dir", str(output)))
        assert done.status == 0, done.err
        journals = (output / "runs/sized/tracking").glob("*rank0*.jsonl")
        found[steps] = (
            sum(path.stat().st_size for path in journals),
            (output / "mlflow.db").stat().st_size,
        )
    journal, database = (
        (after - before) / 200 for before, after in zip(found[20], found[220], strict=True)
    )
    with capsys.disabled():
        print(f"\na step: {journal:.0f} bytes of journal, {database:.0f} of SQLite; {found}")


@pytest.mark.parametrize("count", COUNTS)
def test_sizing_of_the_driver_with_many_videos(count, tmp_path, capsys) -> None:
    """Each step of the driver, BENCH_COUNTS=100000,1000000."""
    script = Path(__file__).with_name("many_videos.py")
    path = os.pathsep.join(map(str, sys.path))
    with capsys.disabled():
        print(f"\n{machine_and_load()}; {count} videos, a caption each, single run")
        process = subprocess.Popen(
            [sys.executable, script, str(count), tmp_path / "corpus"],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
        )
        for said in map(json.loads, process.stdout):
            line = f"  {said['what']:34s}"
            if said["seconds"]:
                wall, cpu = said["seconds"]
                line += f" {wall:7.1f} s, {cpu:7.1f} of CPU, {1e6 * cpu / count:6.1f} us each"
            if said["bytes"]:
                line += f", {said['bytes'] / 1e6:8.1f} MB, {said['bytes'] / count:6.0f} B each"
            print(line, flush=True)
    assert process.wait() == 0
