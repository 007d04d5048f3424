"""Requests that wait while others are answered are answered together next.

Ray Serve's own batching closes a batch after its waiting time also while the one before is still
computed, so that under load batches of one queue up.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batches(Generic[Item, Answer]):
    """Calls `answer` with up to max_size items at a time, one call after the other.

    An item that finds nobody waiting waits up to wait_s for others.
    """

    def __init__(
        self,
        answer: Callable[[list[Item]], Awaitable[list[Answer]]],
        *,
        max_size: int,
        wait_s: float,
    ) -> None:
        self._answer, self._max_size, self._wait_s = answer, max_size, wait_s
        self._waiting: asyncio.Queue[tuple[Item, asyncio.Future[Answer]]] = asyncio.Queue()
        self._work: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Answer:
        """The answer to an item, or what `answer` raised for its batch."""
        if self._work is None:  # where the loop runs that will go on
            self._work = asyncio.create_task(self._answer_all())
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((item, future))
        return await future

    async def _answer_all(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            if self._waiting.empty():
                await asyncio.sleep(self._wait_s)
            while len(batch) < self._max_size and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            # who has gone is not answered
            batch = [(item, future) for item, future in batch if not future.done()]
            if batch:
                await self._answer_batch(batch)

    async def _answer_batch(self, batch: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._answer([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001  # it is raised where the answer is awaited
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)
