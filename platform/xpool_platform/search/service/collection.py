"""The index as the service asks it: in batches, in threads, and in shards where there are some."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ray.serve.handle import DeploymentHandle

from xpool.scorer import Terms
from xpool_platform.errors import UserError
from xpool_platform.search.answers import AttentionAnswer, CaptionAnswer, VideoAnswer
from xpool_platform.search.config import Method
from xpool_platform.search.searcher import Searcher
from xpool_platform.search.service.batches import Batches

logger = logging.getLogger(__name__)

REFRESH_S = 2.0
"""Seconds after which another version of the index is looked for."""


@dataclass(frozen=True, slots=True)
class Query:
    """A sentence, how many videos are asked for, and how they are looked for."""

    sentence: str
    k: int
    method: Method


class Shard:
    """A process that searches its share of an index."""

    def __init__(self, folder: str, number: int, num_shards: int, num_threads: int) -> None:
        self._searcher = Searcher(Path(folder), num_threads=num_threads, shard=(number, num_shards))
        keep_fresh(self._searcher)

    def search(self, embeds: np.ndarray, k: int, method: Method) -> list[list[VideoAnswer]]:
        return self._searcher.search(embeds, k, method)

    def similar(self, mean_embed: np.ndarray, k: int, without: str) -> list[VideoAnswer]:
        return self._searcher.similar(mean_embed, k, without=without)

    def captions_for(self, terms: Terms, k: int) -> list[CaptionAnswer]:
        return self._searcher.captions_for(terms, k)


class Collection:
    """All that the service asks. Attributes: `searcher`, for what takes no time."""

    def __init__(
        self,
        searcher: Searcher,
        shards: Sequence[DeploymentHandle],
        *,
        batch_size: int,
        batch_wait_s: float,
        on_batch: Callable[[int], None],
    ) -> None:
        self.searcher = searcher
        self._shards = list(shards)
        # one search after the other: each takes all threads
        self._thread = ThreadPoolExecutor(1)

        async def answered(queries: list[Query]) -> list[list[VideoAnswer] | UserError]:
            on_batch(len(queries))
            return await self._answers(queries)

        self._batches = Batches(answered, max_size=batch_size, wait_s=batch_wait_s)
        keep_fresh(searcher)

    async def search(self, queries: Sequence[Query]) -> list[list[VideoAnswer]]:
        """The videos of each query. Raises UserError for a method that the index does not have."""
        answers = await asyncio.gather(*(self._batches(query) for query in queries))
        for answer in answers:
            if isinstance(answer, UserError):
                raise answer
        return [answer for answer in answers if not isinstance(answer, UserError)]

    async def attention(self, sentence: str, video_id: str) -> AttentionAnswer | None:
        """How a sentence attends to a video; None if there is no such video."""

        def answer() -> AttentionAnswer | None:
            embed = self.searcher.encode([sentence])[0]
            return self.searcher.attention(embed, sentence, video_id)

        return await self._run(answer)

    async def similar(self, video_id: str, k: int) -> list[VideoAnswer] | None:
        """Videos like one; None if there is no such video."""
        found = await self._run(partial(self.searcher.by_itself, video_id))
        if found is None:
            return None
        if not self._shards:
            return await self._run(partial(self.searcher.similar, found[0], k, without=video_id))
        return _ranked(await self._asked("similar", found[0], k, video_id), k)

    async def captions_for(self, video_id: str, k: int) -> list[CaptionAnswer] | None:
        """The captions that fit a video best; None if there is no such video."""
        found = await self._run(partial(self.searcher.by_itself, video_id))
        if found is None:
            return None
        if not self._shards:
            return await self._run(partial(self.searcher.captions_for, found[1], k))
        return _ranked(await self._asked("captions_for", found[1], k), k)

    async def _answers(self, queries: list[Query]) -> list[list[VideoAnswer] | UserError]:
        """One pass over the index for the queries that came together."""
        k = max(query.k for query in queries)
        sentences = [query.sentence for query in queries]
        embeds = await self._run(partial(self.searcher.encode, sentences))
        answers: list[list[VideoAnswer] | UserError] = [[] for _ in queries]
        for method in dict.fromkeys(query.method for query in queries):
            own = [i for i, query in enumerate(queries) if query.method == method]
            try:
                found = await self._found(embeds[own], k, method)
                for i, videos in zip(own, found, strict=True):
                    answers[i] = videos[: queries[i].k]
            except UserError as error:
                for i in own:
                    answers[i] = error
        return answers

    async def _found(self, embeds: np.ndarray, k: int, method: Method) -> list[list[VideoAnswer]]:
        # what `auto` means is the same for all shards
        method = self.searcher.index.method_for(method)
        if not self._shards:
            return await self._run(partial(self.searcher.search, embeds, k, method))
        of_shards = await self._asked("search", embeds, k, method)
        return [_ranked(parts, k) for parts in zip(*of_shards, strict=True)]

    async def _asked(self, method: str, *arguments: Any) -> list[Any]:
        return list(
            await asyncio.gather(
                *(getattr(shard, method).remote(*arguments) for shard in self._shards)
            )
        )

    async def _run(self, work: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def keep_fresh(searcher: Searcher) -> None:
    """Open each new version of the index soon after it is there, until the process ends."""

    def look() -> None:
        told = ""
        while True:
            time.sleep(REFRESH_S)
            try:
                if searcher.refresh():
                    logger.info("version %s is served", searcher.index.version.version)
                told = ""
            except Exception as error:  # noqa: BLE001  # whatever is wrong, the next may be whole
                if told != str(error):
                    logger.warning("the former index is served on: %s", error)
                told = str(error)

    threading.Thread(target=look, daemon=True, name="index versions").start()


def _ranked(parts: Sequence[Sequence[Any]], k: int) -> list[Any]:
    """The best of several lists that are each in order."""
    merged = sorted((each for part in parts for each in part), key=lambda each: -each.score)[:k]
    return [each.model_copy(update={"rank": rank}) for rank, each in enumerate(merged, start=1)]
