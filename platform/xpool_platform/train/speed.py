"""What makes a training step fast on a GPU, and changes nothing in what it computes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from xpool_platform.train_config import TrainConfig

if TYPE_CHECKING:
    from xpool_platform.data.batches import WorkerBatch


def prepare_towers(clip: Any, config: TrainConfig) -> None:
    """Compile the towers and recompute their activations, where the config asks for it."""
    if config.checkpoint_activations:
        clip.set_grad_checkpointing(True)
    if config.compile:
        clip.visual.compile()
        getattr(clip, "text", clip.transformer).compile()


@contextmanager
def matmul_precision(*, tf32: bool) -> Iterator[None]:
    """Matrix products in float32 by TF32 for the time of the block, if that is asked for."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def fetched_ahead(
    batches: Iterator["WorkerBatch"], device: torch.device
) -> Iterator["WorkerBatch"]:
    """The batches, the next of them unpacked while this one is used, in pinned memory for a GPU."""

    def fetch() -> "WorkerBatch | None":
        batch = next(batches, None)
        if batch is None or device.type != "cuda":
            return batch
        texts = batch.text_embeds
        return replace(
            batch,
            frames=batch.frames.pin_memory(),
            text_embeds=texts.pin_memory() if texts is not None else None,
        )

    pool = ThreadPoolExecutor(1)
    coming = pool.submit(fetch)
    try:
        while (batch := coming.result()) is not None:
            coming = pool.submit(fetch)
            yield batch
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
