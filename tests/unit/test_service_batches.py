"""Requests that wait are answered together, in their order, and nobody waits for ever."""

import asyncio

import pytest

from xpool_platform.search.service.batches import Batches


class Doubler:
    """Doubles numbers when it is let; keeps what it was asked."""

    def __init__(self):
        self.asked: list[list[int]] = []
        self.may_go = asyncio.Event()

    async def __call__(self, numbers):
        self.asked.append(numbers)
        await self.may_go.wait()
        if 13 in numbers:
            raise ValueError("thirteen")
        return [2 * number for number in numbers]


async def begun(batches, *numbers):
    tasks = [asyncio.create_task(batches(number)) for number in numbers]
    await asyncio.sleep(0.02)
    return tasks


def test_what_comes_while_one_is_answered_is_answered_together_next():
    async def run():
        double = Doubler()
        batches = Batches(double, max_size=3, wait_s=0)
        tasks = await begun(batches, 1)
        tasks += await begun(batches, 2, 3, 4, 5)
        double.may_go.set()
        assert await asyncio.gather(*tasks) == [2, 4, 6, 8, 10]
        assert double.asked == [[1], [2, 3, 4], [5]]

    asyncio.run(run())


def test_one_that_finds_nobody_waits_a_little_for_others():
    async def run():
        double = Doubler()
        double.may_go.set()
        batches = Batches(double, max_size=8, wait_s=0.2)
        assert await asyncio.gather(*await begun(batches, 1), *await begun(batches, 2)) == [2, 4]
        assert double.asked == [[1, 2]]

    asyncio.run(run())


def test_a_failure_is_that_of_its_batch_alone():
    async def run():
        double = Doubler()
        double.may_go.set()
        batches = Batches(double, max_size=2, wait_s=0)
        first = await asyncio.gather(*await begun(batches, 1, 13), return_exceptions=True)
        assert [str(error) for error in first] == ["thirteen", "thirteen"]
        assert await batches(4) == 8

    asyncio.run(run())


def test_who_has_gone_is_not_answered():
    async def run():
        double = Doubler()
        batches = Batches(double, max_size=3, wait_s=0)
        tasks = await begun(batches, 1)
        gone, stays = await begun(batches, 2, 3)
        gone.cancel()
        double.may_go.set()
        assert await asyncio.gather(*tasks, stays) == [2, 6]
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert double.asked == [[1], [3]]

    asyncio.run(run())
