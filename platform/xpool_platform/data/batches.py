"""Training batches, loaded and augmented by Ray Data ahead of the workers.

The dataset has a row for each (step, worker), in an order from which `streaming_split` deals every
worker its own. A row's content depends on (seed, epoch, video, caption) alone, so a run can be
repeated, and its batches do not depend on the number of workers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import ray
import torch
from jaxtyping import UInt8

from xpool.sampling import random_frame_indices
from xpool.transforms import eval_transform, train_transform
from xpool_platform.data.frame_cache import read_frames
from xpool_platform.data.plan import BatchPlan, worker_bounds

BLOCK_BYTES = 8 * 2**20
"""Rows are grouped into tasks of about this size; small rows cost more in tasks than in work."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Feed:
    """All that a loading task needs to know of a training."""

    frames_paths: list[str]
    num_available: list[int]
    captions: list[list[str]]
    batch_size: int
    num_frames: int
    image_size: int
    augment: bool
    seed: int
    world_size: int
    num_steps: int

    def plan(self) -> BatchPlan:
        return BatchPlan([len(texts) for texts in self.captions], self.batch_size, self.seed)

    def steps_per_block(self) -> int:
        """Steps that one task loads for one worker."""
        row_bytes = self.batch_size * self.num_frames * 3 * self.image_size**2 // self.world_size
        return max(1, min(self.num_steps, BLOCK_BYTES // row_bytes))


@dataclass(frozen=True, slots=True)
class WorkerBatch:
    """One worker's share of a global batch."""

    step: int
    num_pairs: int
    """Pairs of the global batch."""

    frames: UInt8[torch.Tensor, "num_own num_frames 3 image_size image_size"]
    captions: list[str]


def make_feed(
    videos: pa.Table,
    *,
    batch_size: int,
    num_frames: int,
    image_size: int,
    augment: bool,
    seed: int,
    world_size: int,
    num_steps: int,
) -> Feed:
    """The feed of the videos of a decoded manifest."""
    return Feed(
        frames_paths=videos["frames_path"].to_pylist(),
        num_available=videos["num_frames"].to_pylist(),
        captions=videos["captions"].to_pylist(),
        batch_size=batch_size,
        num_frames=num_frames,
        image_size=image_size,
        augment=augment,
        seed=seed,
        world_size=world_size,
        num_steps=num_steps,
    )


def training_dataset(feed: Feed, num_cpus: float) -> ray.data.Dataset:
    """All batches of a training, to be split among its workers in order."""
    num_blocks = -(-feed.num_steps // feed.steps_per_block()) * feed.world_size
    return ray.data.range(num_blocks, override_num_blocks=num_blocks).map_batches(
        _load_block,
        fn_args=(ray.put(feed),),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=num_cpus,
    )


def worker_batches(
    shard: ray.data.DataIterator, rank: int, num_frames: int, image_size: int
) -> Iterator[WorkerBatch]:
    """A worker's batches in order, checked to be its own and none left out."""
    step = 0
    for table in shard.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2):
        for i in range(table.num_rows):
            row = {name: table[name][i] for name in table.column_names}
            got = row["step"].as_py(), row["rank"].as_py()
            assert got == (step, rank), f"expected step {step} of worker {rank}, got {got}"
            captions = row["captions"].as_py()
            frames = np.frombuffer(row["frames"].as_buffer(), np.uint8)
            shape = (len(captions), num_frames, 3, image_size, image_size)
            yield WorkerBatch(
                step, row["num_pairs"].as_py(), torch.tensor(frames).view(shape), captions
            )
            step += 1


def load_share(feed: Feed, plan: BatchPlan, step: int, rank: int) -> tuple[torch.Tensor, list[str]]:
    """Frames [num_own, num_frames, 3, image_size, image_size] and captions of a worker's pairs."""
    pairs = plan.batch(step)
    first, stop = worker_bounds(len(pairs), rank, feed.world_size)
    epoch = step // plan.batches_per_epoch
    clips, captions = [], []
    for video, caption in pairs[first:stop].tolist():
        rng = np.random.default_rng([feed.seed, epoch, video, caption])
        indices = random_frame_indices(feed.num_available[video], feed.num_frames, rng)
        frames = torch.from_numpy(read_frames(Path(feed.frames_paths[video]), indices))
        frames = frames.permute(0, 3, 1, 2)
        clips.append(
            train_transform(frames, feed.image_size, rng)
            if feed.augment
            else eval_transform(frames, feed.image_size)
        )
        captions.append(feed.captions[video][caption])
    if not clips:  # a batch may have fewer pairs than there are workers
        return torch.empty(
            0, feed.num_frames, 3, feed.image_size, feed.image_size, dtype=torch.uint8
        ), []
    return torch.stack(clips), captions


def _load_block(blocks: pa.Table, feed_ref: ray.ObjectRef) -> pa.Table:
    torch.set_num_threads(1)
    feed, plan = _received(feed_ref)
    rows = []
    for block in blocks["id"].to_pylist():
        group, rank = divmod(block, feed.world_size)
        first = group * feed.steps_per_block()
        for step in range(first, min(first + feed.steps_per_block(), feed.num_steps)):
            frames, captions = load_share(feed, plan, step, rank)
            rows.append(
                {
                    "step": step,
                    "rank": rank,
                    "num_pairs": len(plan.batch(step)),
                    "frames": frames.numpy().tobytes(),
                    "captions": captions,
                }
            )
    return pa.Table.from_pylist(rows, schema=_ROW_SCHEMA)


_ROW_SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("rank", pa.int64()),
        ("num_pairs", pa.int64()),
        ("frames", pa.large_binary()),
        ("captions", pa.list_(pa.string())),
    ]
)


@lru_cache(maxsize=1)
def _received(feed_ref: ray.ObjectRef) -> tuple[Feed, BatchPlan]:
    feed = ray.get(feed_ref)
    return feed, feed.plan()
