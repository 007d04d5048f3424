"""A corpus of very many videos that takes no disk, and what the driver does with it.

`bench_sizing.py` runs it in a process of its own: `many_videos.py NUM_VIDEOS FOLDER`. Videos and
their stored frames are hard links to a few files, so that every name is looked up as if it were a
video of its own. It prints a line of JSON for each step: what, its seconds by the clock and of the
CPU, and bytes.
"""

import json
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import ray
import simplejpeg
from machine import cost_of

from xpool_platform.config import ExperimentConfig
from xpool_platform.data.decode import decode_manifest
from xpool_platform.data.feed import Feed, TrainingBatches, _received, training_dataset
from xpool_platform.data.folder_manifest import folder_manifest
from xpool_platform.data.frame_store import (
    frames_uri,
    stored_videos,
    video_names,
    write_frames,
)
from xpool_platform.data.manifest import hold_out_validation
from xpool_platform.data.video import EncodedVideo
from xpool_platform.data_config import DataConfig
from xpool_platform.experiments import experiment
from xpool_platform.locations import files_below
from xpool_platform.run_inputs import dataset_records
from xpool_platform.runtime import ray_session

LINKS = 10_000
"""To one file; file systems allow a few times that."""

NUM_EPOCHS = 5


def main() -> None:
    """All steps in the order of a training."""
    num_videos, folder = int(sys.argv[1]), Path(sys.argv[2])
    videos, store = folder / "videos", str(folder / "store")
    step("make the corpus", make_videos, videos, num_videos)
    manifest = step("captions and files to a manifest", folder_manifest, videos)
    say("the manifest", num_bytes=manifest.nbytes)
    config = DataConfig(root=str(videos), val_fraction=0.001)
    manifest = step("hold out validation", hold_out_validation, manifest, config, 0)
    rows = step("its rows as dictionaries", manifest.to_pylist)
    names = step("names, a stat for each video", video_names, rows)
    with ray_session():
        undecoded = [{"name": name, **row} for name, row in zip(names, rows, strict=True)]
        step("hand what is not decoded to Ray", hand_over, undecoded)
        del undecoded, rows
        step("make the store", make_store, store, names)
        step("list the store", files_below, store)
        step("list it and read its footers", stored_videos, store, names)
        del names
        decoded = step(
            "the whole pass over a full store",
            decode_manifest,
            manifest,
            config,
            store,
            lambda *_: None,
        )
        del manifest
        say("the decoded manifest", num_bytes=decoded.videos.nbytes)
        named = experiment("videos")
        step("digests for MLflow", dataset_records, decoded.videos, named, ["train"])
        feed_steps(decoded.videos, named)


def feed_steps(videos: Any, config: ExperimentConfig) -> None:
    """What is made of a decoded manifest for the loading tasks."""
    train = videos.filter(pc.equal(videos["split"], "train"))

    def made(num_steps: int) -> Feed:
        return Feed(
            frames_uris=train["frames_uri"].to_pylist(),
            text_embeds_uris=None,
            num_available=train["num_frames"].to_pylist(),
            captions=train["captions"].to_pylist(),
            batch_size=config.train.batch_size,
            num_frames=config.data.num_frames,
            image_size=224,
            augment=True,
            seed=0,
            world_size=1,
            num_steps=num_steps,
        )

    plan = step("plan", made(1).plan)
    step("an epoch of the plan", plan.batch, 0)
    feed = step("feed", made, NUM_EPOCHS * plan.batches_per_epoch)
    del plan
    say("the feed, as it is sent", num_bytes=len(pickle.dumps(feed, protocol=5)))
    feed_ref = step("put the feed", ray.put, feed)
    fresh = ray.remote(max_calls=1)(as_a_loading_task)
    for what, (seconds, num_bytes) in ray.get(fresh.remote([feed_ref])).items():
        say(what, seconds=seconds, num_bytes=num_bytes)
    tasks = TrainingBatches(feed).num_tasks()
    say(f"{tasks} loading tasks")
    step("until the first batch", first_row, feed)


def as_a_loading_task(refs: list[ray.ObjectRef]) -> dict[str, tuple[tuple[float, float], int]]:
    """What a process that loads needs before it loads anything."""
    received = cost_of(_received, refs[0])
    epoch = cost_of(lambda: received.result[1].batch(0))
    return {
        "feed in a loading process": (
            (received.seconds, received.cpu_seconds),
            received.kept_bytes,
        ),
        "its epoch": ((epoch.seconds, epoch.cpu_seconds), epoch.peak_bytes),
    }


def first_row(feed: Feed) -> None:
    """As a training worker begins."""
    (shard,) = training_dataset(feed, num_cpus=1).streaming_split(1)
    next(iter(shard.iter_batches(batch_size=None, batch_format="pyarrow")))


def hand_over(rows: list[dict[str, Any]]) -> None:
    """As `decode_manifest` begins; the tasks themselves are left out."""
    ray.data.from_items(rows, override_num_blocks=max(1, len(rows) // 128)).materialize()


def make_videos(folder: Path, num_videos: int) -> None:
    """A folder for each thousand, and a captions.csv."""
    folder.mkdir(parents=True)
    lines = ["video,caption"]
    for i in range(num_videos):
        if i % LINKS == 0:
            source = folder / f"{i}.source"
            source.write_bytes(b"not decoded here")
        if i % 1000 == 0:
            (folder / f"{i // 1000:06d}").mkdir()
        name = f"{i // 1000:06d}/{i:010d}.mp4"
        os.link(source, folder / name)
        lines.append(f"{name},someone does thing number {i} in a place with other things")
    (folder / "captions.csv").write_text("\n".join(lines), encoding="utf-8")


def make_store(store: str, names: list[str]) -> None:
    """As if all videos had been decoded."""
    picture = simplejpeg.encode_jpeg(np.zeros((224, 298, 3), np.uint8))
    video = EncodedVideo(jpegs=[picture] * 16, times_s=np.arange(16.0), duration_s=16.0)
    for i in range(256):
        Path(store, f"{i:02x}").mkdir(parents=True)
    for i, name in enumerate(names):
        if i % LINKS == 0:
            source = f"{store}/{i}.source"
            write_frames(source, video)
        os.link(source, frames_uri(store, name))


def step(what: str, work: Callable[..., Any], *arguments: Any) -> Any:
    """Do it and tell what it took."""
    cost = cost_of(work, *arguments)
    say(what, seconds=(cost.seconds, cost.cpu_seconds), num_bytes=cost.peak_bytes)
    return cost.result


def say(
    what: str, *, seconds: tuple[float, float] | None = None, num_bytes: int | None = None
) -> None:
    """A line of what is measured."""
    print(json.dumps({"what": what, "seconds": seconds, "bytes": num_bytes}), flush=True)


if __name__ == "__main__":
    main()
