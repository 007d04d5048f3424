"""Seconds of CPU, for figures that are taken while others use the machine."""

import statistics
import time
from collections.abc import Callable

import psutil


def cpu_and_wall(works: list[Callable[[], object]]) -> tuple[float, float]:
    """Median seconds of CPU, children's included, and of the clock: others may use the core."""
    taken = []
    for work in works:
        before, start = _cpu_seconds(), time.perf_counter()
        work()
        taken.append((_cpu_seconds() - before, time.perf_counter() - start))
    cpu, wall = map(statistics.median, zip(*taken, strict=True))
    return cpu, wall


def _cpu_seconds() -> float:
    """Of this process and its children."""
    processes = [psutil.Process(), *psutil.Process().children()]
    return sum(sum(process.cpu_times()[:2]) for process in processes)
