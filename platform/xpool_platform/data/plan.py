"""Which (video, caption) pairs make up each batch: a function of (seed, epoch) alone."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Int

Pairs = Int[np.ndarray, "num_pairs 2"]
"""Rows of (video index, caption index within the video)."""


class BatchPlan:
    """Epochs of batches in which each pair comes once and no batch holds a video twice.

    An epoch has as many batches as the pairs need, and at least as many as the richest video has
    captions; their sizes differ by at most one. Attributes: `batches_per_epoch`.
    """

    def __init__(self, captions_per_video: Sequence[int], batch_size: int, seed: int) -> None:
        self.captions_per_video = np.asarray(captions_per_video)
        if not len(self.captions_per_video) or self.captions_per_video.min() < 1:
            raise ValueError("a plan needs videos, each with at least one caption")
        self.seed = seed
        self.num_pairs = int(self.captions_per_video.sum())
        needed = -(-self.num_pairs // min(batch_size, len(self.captions_per_video)))
        self.batches_per_epoch = max(needed, int(self.captions_per_video.max()))
        self._epoch = lru_cache(maxsize=2)(self._make_epoch)

    def batch(self, step: int) -> Pairs:
        """The pairs of a step, counted from 0 through all epochs."""
        epoch, index = divmod(step, self.batches_per_epoch)
        return self._epoch(epoch)[index]

    def _make_epoch(self, epoch: int) -> list[Pairs]:
        """The pairs, video by video in random order, are dealt to all batches in turn.

        Each round of dealing goes over the batches in an order of its own. A video's captions lie
        next to each other, so within a round they fall to different batches; where a video runs
        on into the next round, that round's order is mended so that this holds there too.
        """
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.captions_per_video))
        videos = np.repeat(order, self.captions_per_video[order])
        captions = np.concatenate([rng.permutation(self.captions_per_video[v]) for v in order])
        num_batches = self.batches_per_epoch
        batch_of_pair = np.empty(self.num_pairs, dtype=np.int64)
        for start in range(0, self.num_pairs, num_batches):
            stop = min(start + num_batches, self.num_pairs)
            deal = rng.permutation(num_batches)
            if start:
                begun = batch_of_pair[:start][videos[:start] == videos[start]]
                _mend(deal, taken=begun, count=int((videos[start:stop] == videos[start]).sum()))
            batch_of_pair[start:stop] = deal[: stop - start]
        by_batch = np.argsort(batch_of_pair, kind="stable")
        pairs = np.stack([videos, captions], axis=1)[by_batch]
        bounds = np.cumsum(np.bincount(batch_of_pair, minlength=num_batches))[:-1]
        return np.split(pairs, bounds)


def worker_bounds(num_pairs: int, rank: int, world_size: int) -> tuple[int, int]:
    """First and one past the last of the pairs of a global batch that a worker takes."""
    return num_pairs * rank // world_size, num_pairs * (rank + 1) // world_size


def _mend(deal: Int[np.ndarray, " num_batches"], taken: np.ndarray, count: int) -> None:
    """Swap entries of deal so that none of the first `count` is in `taken`."""
    conflicts = np.flatnonzero(np.isin(deal[:count], taken))
    free = count + np.flatnonzero(~np.isin(deal[count:], taken))
    for position, other in zip(conflicts, free, strict=False):
        deal[[position, other]] = deal[[other, position]]
