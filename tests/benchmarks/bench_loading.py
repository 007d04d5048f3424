"""Loading a whole corpus, against a loader written as the authors' users have it."""

import os
import statistics
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest
import torch
from h264_clips import NUM_FRAMES, PlainDataset, copies, make_clips, uniform_by_seeking
from machine import listed, machine_name, seconds_of
from ray.data import DataContext, ExecutionOptions
from torch.utils.data import DataLoader

from xpool_platform.data.batches import load_row, worker_batches
from xpool_platform.data.decode import decode_manifest
from xpool_platform.data.decode_child import decode
from xpool_platform.data.feed import Feed, started_rows, training_dataset
from xpool_platform.data.manifest import SCHEMA
from xpool_platform.data.video import FrameSettings
from xpool_platform.data_config import DataConfig
from xpool_platform.runtime import ray_session

NUM_RUNS = int(os.environ.get("BENCH_RUNS", "3"))
NUM_CLIPS = int(os.environ.get("BENCH_CLIPS", "32"))
NUM_COPIES = int(os.environ.get("BENCH_COPIES", "8"))
"""Of each clip in the first pass."""

NUM_CORES = 2
CAPTIONS_PER_VIDEO = 20
NUM_EPOCHS = 3
BATCH_SIZE = 32
FIRST_PASS = DataConfig(root="-", frames_per_second=0.01, num_frames=NUM_FRAMES)
"""As few frames as the plain loader takes (16 of them, where it takes 12)."""


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Path]:
    return make_clips(tmp_path_factory.mktemp("clips"), NUM_CLIPS, seconds=(10, 30))


@pytest.fixture(scope="module")
def _two_cores() -> Iterator[None]:
    psutil.Process().cpu_affinity(list(range(NUM_CORES)))
    with ray_session():
        yield


def manifest_of(paths: list[Path], num_captions: int) -> pa.Table:
    rows = [
        {
            "video_id": path.name,
            "uri": str(path),
            "split": "train",
            "captions": [f"caption {i}" for i in range(num_captions)],
            "start_s": None,
            "end_s": None,
        }
        for path in paths
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def decode_as_jpeg(path: str, settings: FrameSettings) -> int:
    import simplejpeg

    keep = partial(simplejpeg.encode_jpeg, quality=settings.jpeg_quality, colorsubsampling="420")
    return len(decode(path, settings, None, None, keep).frames)


def seek_and_count(path: str) -> int:
    return len(uniform_by_seeking(path))


def report(title: str, taken: dict[str, list[float]], per: int, what: str, base: str) -> None:
    print(f"\n{machine_name()}; {title}; medians of interleaved runs")
    reference = statistics.median(taken[base])
    for name, seconds in taken.items():
        median = statistics.median(seconds)
        print(
            f"  {name:46s} {per / median:8.1f} {what}/s, {reference / median:6.2f} times {base}, "
            f"{listed(seconds)}"
        )


@pytest.mark.usefixtures("_two_cores")
def test_first_pass(clips, tmp_path, capsys) -> None:
    """Decoding everything once: Ray Data into the store, a bare pool, OpenCV by a pool."""
    paths = copies(clips, tmp_path / "copies", NUM_COPIES)
    manifest = manifest_of(paths, 1)
    settings = FrameSettings.of(FIRST_PASS)
    names = list(map(str, paths))
    plain, pool, ours = "OpenCV with seeks, process pool", "this decoder, process pool", "Ray Data"
    taken: dict[str, list[float]] = {plain: [], pool: [], ours: []}
    decode_manifest(manifest.slice(0, 64), FIRST_PASS, str(tmp_path / "warm"), lambda *_: None)
    works = {plain: seek_and_count, pool: partial(decode_as_jpeg, settings=settings)}
    for run in range(NUM_RUNS):
        for name, work in works.items():
            with ProcessPoolExecutor(NUM_CORES) as workers:
                list(workers.map(work, names[: 2 * NUM_CORES]))  # imports
                taken[name].append(
                    seconds_of(lambda w=workers, f=work: list(w.map(f, names, chunksize=4)))
                )
        store = str(tmp_path / f"store{run}")
        taken[ours].append(
            seconds_of(lambda s=store: decode_manifest(manifest, FIRST_PASS, s, lambda *_: None))
        )
    with capsys.disabled():
        report(f"first pass over {len(paths)} clips of 240p", taken, len(paths), "videos", plain)


def feed_of(videos: pa.Table, num_steps: int) -> Feed:
    return Feed(
        frames_uris=videos["frames_uri"].to_pylist(),
        text_embeds_uris=None,
        num_available=videos["num_frames"].to_pylist(),
        captions=videos["captions"].to_pylist(),
        batch_size=BATCH_SIZE,
        num_frames=NUM_FRAMES,
        image_size=224,
        augment=True,
        seed=0,
        world_size=1,
        num_steps=num_steps,
    )


def load_all(feed: Feed) -> int:
    """All batches, as a training worker gets them."""
    dataset = training_dataset(feed, num_cpus=1)
    (shard,) = dataset.streaming_split(1)
    return sum(len(b.captions) for b in worker_batches(started_rows(shard), 0, NUM_FRAMES))


def load_plainly(paths: list[Path], num_epochs: int) -> int:
    loader = DataLoader(
        PlainDataset(paths, CAPTIONS_PER_VIDEO),
        batch_size=BATCH_SIZE,
        shuffle=True,
        num_workers=NUM_CORES,
        drop_last=False,
    )
    return sum(len(batch) for _ in range(num_epochs) for batch, _ in loader)


@pytest.mark.usefixtures("_two_cores")
def test_later_passes_and_a_whole_run(clips, tmp_path, capsys) -> None:
    """Three epochs of 20 captions a video, the first pass included; and a later pass alone."""
    DataContext.get_current().execution_options = ExecutionOptions(preserve_order=True)
    num_pairs = NUM_CLIPS * CAPTIONS_PER_VIDEO
    config = DataConfig(root="-")
    manifest = manifest_of(clips, CAPTIONS_PER_VIDEO)
    later: dict[str, list[float]] = {"plain": [], "store": []}
    whole: dict[str, list[float]] = {"plain": [], "store": []}
    decode_manifest(manifest.slice(0, 4), config, str(tmp_path / "warm"), lambda *_: None)
    for run in range(NUM_RUNS):
        stores = str(tmp_path / f"store{run}")
        decoded = []
        first = seconds_of(
            lambda s=stores, d=decoded: d.append(
                decode_manifest(manifest, config, s, lambda *_: None)
            )
        )
        assert decoded[0].num_decoded == NUM_CLIPS
        steps = feed_of(decoded[0].videos, 1).plan().batches_per_epoch * NUM_EPOCHS
        feed = feed_of(decoded[0].videos, steps)
        epochs = seconds_of(lambda f=feed: load_all(f))
        later["store"].append(epochs / NUM_EPOCHS)
        whole["store"].append(first + epochs)
        plain = seconds_of(lambda: load_plainly(clips, NUM_EPOCHS))
        later["plain"].append(plain / NUM_EPOCHS)
        whole["plain"].append(plain)
    with capsys.disabled():
        report("a later epoch", later, num_pairs, "clips", "plain")
        report("three epochs and the first pass", whole, NUM_EPOCHS * num_pairs, "clips", "plain")
        print(f"  decodes: {NUM_EPOCHS * num_pairs} plainly, {NUM_CLIPS} into the store")


@pytest.mark.usefixtures("_two_cores")
def test_one_clip_on_one_core(clips, tmp_path, capsys) -> None:
    """The work of a later pass alone, without processes between: read, decode, crop, resize."""
    torch.set_num_threads(1)
    decoded = decode_manifest(
        manifest_of(clips, CAPTIONS_PER_VIDEO),
        DataConfig(root="-"),
        str(tmp_path / "store"),
        lambda *_: None,
    )
    feed = feed_of(decoded.videos, num_steps=1000)
    plan = feed.plan()
    dataset = PlainDataset(clips, 1)
    taken: dict[str, list[float]] = {"plain": [], "store": []}
    load_row(feed, plan, range(1), 0)
    for step in range(2 * NUM_RUNS):
        seconds = seconds_of(lambda s=step: load_row(feed, plan, range(s, s + 1), 0))
        taken["store"].append(seconds / len(plan.batch(step)))
        chosen = np.random.default_rng(step).choice(len(clips), 8, replace=False)
        taken["plain"].append(seconds_of(lambda c=chosen: [dataset[int(i)] for i in c]) / 8)
    with capsys.disabled():
        report("one clip, one core", taken, 1, "clips", "plain")
