"""Training batches: loaded and augmented in the tasks of `feed`, unpacked by the workers.

What a row holds depends on (seed, epoch, video, caption) alone, so a run can be repeated, and its
batches do not depend on the number of workers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import UInt8

from xpool.sampling import random_frame_indices
from xpool.transforms import eval_transform, train_transform
from xpool_platform.data.feed import Feed
from xpool_platform.data.frame_store import read_frames
from xpool_platform.data.plan import BatchPlan, worker_bounds


@dataclass(frozen=True, slots=True)
class WorkerBatch:
    """One worker's share of a global batch."""

    step: int
    num_pairs: int
    """Pairs of the global batch."""

    frames: UInt8[torch.Tensor, "num_own num_frames 3 image_size image_size"]
    captions: list[str]


def worker_batches(
    blocks: Iterator[pa.Table], rank: int, num_frames: int, image_size: int
) -> Iterator[WorkerBatch]:
    """A worker's batches in order, checked to be its own and none left out."""
    step = 0
    for table in blocks:
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


def load_row(feed: Feed, plan: BatchPlan, step: int, rank: int) -> dict[str, Any]:
    """A worker's pairs of a step, as a row of `feed.ROW_SCHEMA`."""
    torch.set_num_threads(1)
    pairs = plan.batch(step)
    first, stop = worker_bounds(len(pairs), rank, feed.world_size)
    epoch = step // plan.batches_per_epoch
    shape = (stop - first, feed.num_frames, 3, feed.image_size, feed.image_size)
    clips = torch.empty(shape, dtype=torch.uint8)
    captions = []
    for clip, (video, caption) in zip(clips, pairs[first:stop].tolist(), strict=True):
        rng = np.random.default_rng([feed.seed, epoch, video, caption])
        indices = random_frame_indices(feed.num_available[video], feed.num_frames, rng)
        frames = torch.from_numpy(read_frames(feed.frames_uris[video], indices))
        frames = frames.permute(0, 3, 1, 2)  # [num_frames, 3, height, width]
        clip[:] = (
            train_transform(frames, feed.image_size, rng)
            if feed.augment
            else eval_transform(frames, feed.image_size)
        )
        captions.append(feed.captions[video][caption])
    return {
        "step": step,
        "rank": rank,
        "num_pairs": len(pairs),
        "frames": clips.numpy().reshape(-1).data,
        "captions": captions,
    }
