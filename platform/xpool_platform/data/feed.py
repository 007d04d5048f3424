"""What feeds a training: a Ray dataset with a row for each worker and few steps.

`streaming_split` deals each worker its own rows, in order. This module is imported where the
dataset is only passed on, so it leaves torch to `batches`, which does the loading.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial

import pyarrow as pa
import ray
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata
from ray.data.context import DataContext

from xpool_platform.data.plan import BatchPlan
from xpool_platform.placement import WHERE_DECODING

TASK_CLIPS = 256
"""About so many a task loads: a second or two of work, as Ray takes tenths of one to begin it."""

ROW_BYTES = 8 * 2**20
"""A row holds steps of about this size, and a task hands on each row as it is loaded."""

MAX_RETRIES = 3
"""Times that a task is done again whose worker died; Ray Data would do it for ever."""

EMBED_BYTES = 4096
"""About that much is the embedding of a frame."""

ROW_SCHEMA = pa.schema(
    [
        ("rank", pa.int64()),
        ("first_step", pa.int64()),
        ("num_pairs", pa.list_(pa.int64())),
        ("num_own", pa.list_(pa.int64())),
        ("frames", pa.large_binary()),
        ("text_embeds", pa.large_binary()),
        ("captions", pa.list_(pa.string())),
    ]
)
"""Of steps from first_step on: the pairs of each global batch and this worker's own; then its
frames and captions, or their embeddings, one pair after the other through all those steps."""


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

    def steps_per_row(self) -> int:
        """Steps that a row holds."""
        return max(1, ROW_BYTES * self.world_size // self._step_bytes())

    def steps_per_task(self) -> int:
        """Steps that a task loads, for all workers: a multiple of those of a row."""
        rows = TASK_CLIPS // (self.batch_size * self.steps_per_row())
        return self.steps_per_row() * max(1, rows)

    def _step_bytes(self) -> int:
        frame_bytes = 3 * self.image_size**2 if self.text_embeds_uris is None else EMBED_BYTES
        return self.batch_size * self.num_frames * frame_bytes


class TrainingBatches(Datasource):
    """All batches of a training."""

    def __init__(self, feed: Feed) -> None:
        super().__init__()
        self._steps = range(feed.first_step, feed.num_steps, feed.steps_per_task())
        self._feed_ref = ray.put(feed)

    def num_tasks(self) -> int:
        """Of loading, in order."""
        return len(self._steps)

    def get_read_tasks(
        self,
        parallelism: int,
        per_task_row_limit: int | None = None,
        data_context: DataContext | None = None,
    ) -> list[ReadTask]:
        """One for each stretch of steps, in order."""
        del parallelism, data_context  # there are as many tasks as the plan needs
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [
            ReadTask(
                partial(_load, self._feed_ref, first_step),
                unknown,
                per_task_row_limit=per_task_row_limit,
            )
            for first_step in self._steps
        ]

    def estimate_inmemory_data_size(self) -> int | None:
        """Not known, and not needed: the tasks are counted out already."""
        return None


def training_dataset(feed: Feed, num_cpus: float) -> ray.data.Dataset:
    """All batches of a training, to be split among its workers in order.

    Ray holds loading back, as far as its share of the object store is full of batches that nobody
    has taken yet.
    """
    batches = TrainingBatches(feed)
    dataset = ray.data.read_datasource(
        batches,
        override_num_blocks=batches.num_tasks(),
        ray_remote_args={
            "num_cpus": num_cpus,
            "max_retries": MAX_RETRIES,
            "label_selector": WHERE_DECODING,
        },
    )
    dataset.context.target_max_block_size = 1  # every row is handed on by itself, and at once
    return dataset


def started_rows(shard: ray.data.DataIterator) -> Iterator[pa.Table]:
    """A worker's rows. Loading begins with the call, before the first is asked for."""
    rows = iter(shard.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2))
    pool = ThreadPoolExecutor(1)
    first = pool.submit(next, rows, None)
    pool.shutdown(wait=False)

    def all_rows() -> Iterator[pa.Table]:
        row = first.result()
        if row is not None:
            yield row
            yield from rows

    return all_rows()


def _load(feed_ref: ray.ObjectRef, first_step: int) -> Iterator[pa.Table]:
    from xpool_platform.data.batches import load_row  # noqa: PLC0415

    feed, plan = _received(feed_ref)
    end = min(first_step + feed.steps_per_task(), feed.num_steps)
    for step in range(first_step, end, feed.steps_per_row()):
        steps = range(step, min(step + feed.steps_per_row(), end))
        for rank in range(feed.world_size):
            yield load_row(feed, plan, steps, rank)


@lru_cache(maxsize=1)
def _received(feed_ref: ray.ObjectRef) -> tuple[Feed, BatchPlan]:
    feed = ray.get(feed_ref)
    return feed, feed.plan()
