"""The machine that figures were taken on, and how they were taken."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch

Result = TypeVar("Result")


def machine_name() -> str:
    """Cores, processor and GPU."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{os.cpu_count()} x {names[0] if names else platform.processor()}, {gpu}"


def machine_and_load() -> str:
    """The same, and how busy it is with whatever else runs."""
    return f"{machine_name()}, load {os.getloadavg()[0]:.1f}"


def seconds_of(work: Callable[[], object]) -> float:
    """Wall time, of the device too."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def listed(seconds: Sequence[float]) -> str:
    """Median and all that it is the median of."""
    return f"{statistics.median(seconds):7.3f} s of {', '.join(f'{s:.3f}' for s in seconds)}"


@dataclass(frozen=True, slots=True)
class Cost(Generic[Result]):
    """What some work gives and takes."""

    result: Result
    seconds: float
    cpu_seconds: float
    """Of this process, all its threads."""

    peak_bytes: int
    """How far the process grows meanwhile, at most."""

    kept_bytes: int
    """How far it has grown at the end, the result included."""


def cost_of(work: Callable[..., Result], *arguments: object) -> Cost[Result]:
    """Time and memory of some work; memory that was freed before is not seen again."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _status_bytes("VmRSS")
    start, cpu_start = time.perf_counter(), time.process_time()
    result = work(*arguments)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    peak, after = _status_bytes("VmHWM"), _status_bytes("VmRSS")
    return Cost(result, seconds, cpu_seconds, peak - before, after - before)


def peak_bytes_of(work: Callable[[], object]) -> int:
    """How far this process grows while it works, at most; to be asked of a fresh process."""
    return cost_of(work).peak_bytes


def _status_bytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"this system does not tell {name}")
