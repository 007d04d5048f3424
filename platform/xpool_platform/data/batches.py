"""Training batches: loaded and augmented in the tasks of `feed`, unpacked by the workers.

What a row holds depends on (seed, epoch, video, caption) alone, so a run can be repeated, and its
batches do not depend on the number of workers.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, UInt8

from xpool.sampling import random_frame_indices
from xpool.transforms import eval_transform, train_transform
from xpool_platform.data.embedding_cache import read_embeds
from xpool_platform.data.feed import Feed
from xpool_platform.data.frame_store import read_frames
from xpool_platform.data.plan import BatchPlan, worker_bounds


@dataclass(frozen=True, slots=True)
class WorkerBatch:
    """One worker's share of a global batch."""

    step: int
    num_pairs: int
    """Pairs of the global batch."""

    frames: (
        UInt8[torch.Tensor, "num_own num_frames 3 image_size image_size"]
        | Float[torch.Tensor, "num_own num_frames embed_dim"]
    )
    """Pictures, or where the towers are frozen their embeddings."""

    captions: list[str]
    text_embeds: Float[torch.Tensor, "num_own embed_dim"] | None
    """Of the captions, where the towers are frozen."""


def worker_batches(
    blocks: Iterator[pa.Table], rank: int, num_frames: int, *, first_step: int = 0
) -> Iterator[WorkerBatch]:
    """A worker's batches in order, checked to be its own and none left out."""
    step = first_step
    for table in blocks:
        for i in range(table.num_rows):
            row = {name: table[name][i] for name in table.column_names}
            got = row["step"].as_py(), row["rank"].as_py()
            assert got == (step, rank), f"expected step {step} of worker {rank}, got {got}"
            yield _worker_batch(row, num_frames)
            step += 1


def _worker_batch(row: dict[str, Any], num_frames: int) -> WorkerBatch:
    captions = row["captions"].as_py()
    content = row["frames"].as_buffer()
    text_embeds = None
    if row["text_embeds"].is_valid:
        of_texts = np.frombuffer(row["text_embeds"].as_buffer(), np.float32)
        text_embeds = torch.tensor(of_texts).view(len(captions), -1)
        frames = torch.tensor(np.frombuffer(content, np.float32))
        frames = frames.view(len(captions), num_frames, -1)
    else:
        frames = torch.tensor(np.frombuffer(content, np.uint8))
        size = math.isqrt(len(frames) // max(1, 3 * num_frames * len(captions)))
        frames = frames.view(len(captions), num_frames, 3, size, size)
    step, num_pairs = row["step"].as_py(), row["num_pairs"].as_py()
    return WorkerBatch(step, num_pairs, frames, captions, text_embeds)


def load_row(feed: Feed, plan: BatchPlan, step: int, rank: int) -> dict[str, Any]:
    """A worker's pairs of a step, as a row of `feed.ROW_SCHEMA`."""
    torch.set_num_threads(1)
    pairs = plan.batch(step)
    first, stop = worker_bounds(len(pairs), rank, feed.world_size)
    epoch = step // plan.batches_per_epoch
    own = pairs[first:stop].tolist()
    drawn = [np.random.default_rng([feed.seed, epoch, *pair]) for pair in own]
    row = {
        "step": step,
        "rank": rank,
        "num_pairs": len(pairs),
        "captions": [feed.captions[video][caption] for video, caption in own],
    }
    if feed.text_embeds_uris is None:
        clips = _clips(feed, own, drawn)
        return row | {"frames": clips.numpy().reshape(-1).data, "text_embeds": None}
    frame_embeds = [
        read_embeds(feed.frames_uris[video], _frame_indices(feed, video, rng))
        for (video, _), rng in zip(own, drawn, strict=True)
    ]
    text_embeds = [read_embeds(feed.text_embeds_uris[video], [text]) for video, text in own]
    return row | {
        "frames": b"".join(embeds.tobytes() for embeds in frame_embeds),
        "text_embeds": b"".join(embeds.tobytes() for embeds in text_embeds),
    }


def _clips(
    feed: Feed, pairs: list[list[int]], drawn: list[np.random.Generator]
) -> UInt8[torch.Tensor, "num_own num_frames 3 image_size image_size"]:
    shape = (len(pairs), feed.num_frames, 3, feed.image_size, feed.image_size)
    clips = torch.empty(shape, dtype=torch.uint8)
    for clip, (video, _), rng in zip(clips, pairs, drawn, strict=True):
        indices = _frame_indices(feed, video, rng)
        frames = torch.from_numpy(read_frames(feed.frames_uris[video], indices))
        frames = frames.permute(0, 3, 1, 2)  # [num_frames, 3, height, width]
        clip[:] = (
            train_transform(frames, feed.image_size, rng)
            if feed.augment
            else eval_transform(frames, feed.image_size)
        )
    return clips


def _frame_indices(feed: Feed, video: int, rng: np.random.Generator) -> list[int]:
    return random_frame_indices(feed.num_available[video], feed.num_frames, rng)
