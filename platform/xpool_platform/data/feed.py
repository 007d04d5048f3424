"""What feeds a training: a Ray dataset with a row for each (step, worker).

`streaming_split` deals each worker its own rows, in order. This module is imported where the
dataset is only passed on, so it leaves torch to `batches`, which does the loading.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa
import ray

from xpool_platform.data.plan import BatchPlan

BLOCK_BYTES = 8 * 2**20
"""Rows are grouped into tasks of about this size; small rows cost more in tasks than in work."""

MAX_RETRIES = 3
"""Times that a task is done again whose worker died; Ray Data would do it for ever."""

EMBED_BYTES = 4096
"""About that much is the embedding of a frame."""

ROW_SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("rank", pa.int64()),
        ("num_pairs", pa.int64()),
        ("frames", pa.large_binary()),
        ("text_embeds", pa.large_binary()),
        ("captions", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Feed:
    """All that a loading task needs to know of a training."""

    frames_uris: list[str]
    """Of the stored frames, or where the towers are frozen of their embeddings."""

    text_embeds_uris: list[str] | None
    """Of the captions' embeddings where the towers are frozen."""

    num_available: list[int]
    captions: list[list[str]]
    batch_size: int
    num_frames: int
    image_size: int
    augment: bool
    seed: int
    world_size: int
    num_steps: int
    """Of the whole training."""

    first_step: int = 0
    """Where an interrupted training goes on, with the batches that it would have seen."""

    def plan(self) -> BatchPlan:
        """The batches of all epochs."""
        return BatchPlan([len(texts) for texts in self.captions], self.batch_size, self.seed)

    def steps_per_block(self) -> int:
        """Steps that one task loads for one worker."""
        frame_bytes = 3 * self.image_size**2 if self.text_embeds_uris is None else EMBED_BYTES
        row_bytes = self.batch_size * self.num_frames * frame_bytes // self.world_size
        return max(1, min(self.num_steps - self.first_step, BLOCK_BYTES // max(1, row_bytes)))


def training_dataset(feed: Feed, num_cpus: float) -> ray.data.Dataset:
    """All batches of a training, to be split among its workers in order."""
    num_steps = feed.num_steps - feed.first_step
    num_blocks = -(-num_steps // feed.steps_per_block()) * feed.world_size
    return ray.data.range(num_blocks, override_num_blocks=num_blocks).map_batches(
        _load_block,
        fn_args=(ray.put(feed),),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=num_cpus,
        max_retries=MAX_RETRIES,
    )


def started_blocks(shard: ray.data.DataIterator) -> Iterator[pa.Table]:
    """A worker's blocks of rows. Loading begins with the call, before the first is asked for."""
    blocks = iter(shard.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2))
    pool = ThreadPoolExecutor(1)
    first = pool.submit(next, blocks, None)
    pool.shutdown(wait=False)

    def all_blocks() -> Iterator[pa.Table]:
        block = first.result()
        if block is not None:
            yield block
            yield from blocks

    return all_blocks()


def _load_block(blocks: pa.Table, feed_ref: ray.ObjectRef) -> pa.Table:
    from xpool_platform.data.batches import load_row  # noqa: PLC0415

    feed, plan = _received(feed_ref)
    rows = []
    for block in blocks["id"].to_pylist():
        group, rank = divmod(block, feed.world_size)
        first = feed.first_step + group * feed.steps_per_block()
        stop = min(first + feed.steps_per_block(), feed.num_steps)
        rows += [load_row(feed, plan, step, rank) for step in range(first, stop)]
    return pa.Table.from_pylist(rows, schema=ROW_SCHEMA)


@lru_cache(maxsize=1)
def _received(feed_ref: ray.ObjectRef) -> tuple[Feed, BatchPlan]:
    feed = ray.get(feed_ref)
    return feed, feed.plan()
