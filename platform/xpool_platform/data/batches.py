"""Training batches: loaded and augmented in the tasks of `feed`, unpacked by the workers.

What a row holds depends on (seed, epoch, video, caption) alone, so a run can be repeated, and its
batches do not depend on the number of workers.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, UInt8

from xpool.sampling import random_frame_indices
from xpool.transforms import eval_transform, train_transform
from xpool_platform.data.embedding_cache import read_embeds
from xpool_platform.data.feed import ROW_SCHEMA, Feed
from xpool_platform.data.kept_frames import load_frames
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
    """Pictures, their channels last in memory; or where the towers are frozen their embeddings."""

    captions: list[str]
    text_embeds: Float[torch.Tensor, "num_own embed_dim"] | None
    """Of the captions, where the towers are frozen."""


def worker_batches(
    rows: Iterator[pa.Table], rank: int, num_frames: int, *, first_step: int = 0
) -> Iterator[WorkerBatch]:
    """A worker's batches in order, checked to be its own and none left out."""
    step = first_step
    for table in rows:
        for i in range(table.num_rows):
            row = {name: table[name][i] for name in table.column_names}
            got = row["first_step"].as_py(), row["rank"].as_py()
            assert got == (step, rank), f"expected step {step} of worker {rank}, got {got}"
            for batch in _batches_of(row, num_frames):
                yield batch
                step += 1


def _batches_of(row: dict[str, pa.Scalar], num_frames: int) -> Iterator[WorkerBatch]:
    counts: list[int] = row["num_own"].as_py()
    captions: list[str] = row["captions"].as_py()
    num_clips = max(1, len(captions))
    text_embeds = None
    if row["text_embeds"].is_valid:
        text_embeds = _copied(row["text_embeds"], np.float32).view(len(captions), -1)
        frames = _copied(row["frames"], np.float32).view(len(captions), num_frames, -1)
    else:
        pixels = _copied(row["frames"], np.uint8)
        size = math.isqrt(len(pixels) // (3 * num_frames * num_clips))
        frames = pixels.view(len(captions), num_frames, size, size, 3).permute(0, 1, 4, 2, 3)
    first = 0
    for i, (count, num_pairs) in enumerate(zip(counts, row["num_pairs"].as_py(), strict=True)):
        own = slice(first, first + count)
        yield WorkerBatch(
            row["first_step"].as_py() + i,
            num_pairs,
            frames[own],
            captions[own],
            None if text_embeds is None else text_embeds[own],
        )
        first += count


def _copied(content: pa.Scalar, dtype: type) -> torch.Tensor:
    """Out of the object store, where it could not be written to."""
    return torch.from_numpy(np.frombuffer(content.as_buffer(), dtype).copy())


def load_row(feed: Feed, plan: BatchPlan, steps: range, rank: int) -> pa.Table:
    """A worker's pairs of these steps, as the one row of a table of `feed.ROW_SCHEMA`."""
    torch.set_num_threads(1)
    num_pairs, num_own, drawn = [], [], []
    for step in steps:
        pairs = plan.batch(step)
        first, stop = worker_bounds(len(pairs), rank, feed.world_size)
        epoch = step // plan.batches_per_epoch
        num_pairs.append(len(pairs))
        num_own.append(stop - first)
        for video, caption in pairs[first:stop].tolist():
            rng = np.random.default_rng([feed.seed, epoch, video, caption])
            drawn.append((video, caption, rng))
    text_embeds = None
    if feed.text_embeds_uris is None:
        frames = _clips(feed, drawn)
    else:
        frames = _joined(
            [read_embeds(feed.frames_uris[v], _frame_indices(feed, v, rng)) for v, _, rng in drawn]
        )
        text_embeds = _joined([read_embeds(feed.text_embeds_uris[v], [c]) for v, c, _ in drawn])
    columns = [
        pa.array([rank]),
        pa.array([steps.start]),
        pa.array([num_pairs], pa.list_(pa.int64())),
        pa.array([num_own], pa.list_(pa.int64())),
        _cell(frames),
        pa.nulls(1, pa.large_binary()) if text_embeds is None else _cell(text_embeds),
        pa.array([[feed.captions[v][c] for v, c, _ in drawn]], pa.list_(pa.string())),
    ]
    return pa.Table.from_arrays(columns, schema=ROW_SCHEMA)


def _joined(embeds: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(embeds).astype(np.float32) if embeds else np.empty(0, np.float32)


def _cell(content: np.ndarray) -> pa.LargeBinaryArray:
    """One value that holds these bytes, without a copy."""
    bounds = pa.py_buffer(np.array([0, content.nbytes], np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, bounds, pa.py_buffer(content)])


def _clips(
    feed: Feed, drawn: list[tuple[int, int, np.random.Generator]]
) -> UInt8[np.ndarray, "num_own num_frames image_size image_size 3"]:
    shape = (len(drawn), feed.num_frames, feed.image_size, feed.image_size, 3)
    clips = np.empty(shape, np.uint8)
    for clip, (video, _, rng) in zip(torch.from_numpy(clips), drawn, strict=True):
        indices = _frame_indices(feed, video, rng)
        frames = torch.from_numpy(load_frames(feed.frames_uris[video], indices))
        frames = frames.permute(0, 3, 1, 2)  # [num_frames, 3, height, width]
        clip.permute(0, 3, 1, 2)[:] = (
            train_transform(frames, feed.image_size, rng)
            if feed.augment
            else eval_transform(frames, feed.image_size)
        )
    return clips


def _frame_indices(feed: Feed, video: int, rng: np.random.Generator) -> list[int]:
    return random_frame_indices(feed.num_available[video], feed.num_frames, rng)
