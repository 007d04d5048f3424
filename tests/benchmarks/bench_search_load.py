"""50 users of the service on loopback: [BENCH_USERS=50 BENCH_SECONDS=60] make bench ARGS="-k load".

Each asks, waits for the answer, looks at it for a second or so, and asks something else. Three
quarters ask for videos, the rest what the page asks for then: attention, thumbnails, health.
"""

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import numpy as np
import psutil
import pytest
from machine import machine_and_load
from synthetic_index import synthetic_index, with_recall

from free_port import free_port
from xpool_platform.search.recall import measure_recall
from xpool_platform.search.search_index import open_index

ROOT = Path(__file__).parents[2]
NUM_USERS = int(os.environ.get("BENCH_USERS", "50"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "60"))
NUM_VIDEOS = int(os.environ.get("BENCH_VIDEOS", "100000"))
THINKS_S = (0.5, 1.5)
WORDS = (
    *("a", "dog", "red", "man", "woman", "cooking", "plays", "guitar", "on", "the", "street"),
    *("two", "children", "in", "water", "car", "drives", "talks", "about", "phone", "screen"),
)


@contextmanager
def served(index: Path, *options: str) -> Iterator[tuple[str, psutil.Process]]:
    """The address of a service on an index, and its process."""
    port = free_port()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "XPOOL_"))}
    job = subprocess.Popen(
        [sys.executable, "jobs/serve.py", str(index), "--port", str(port), *options],
        cwd=ROOT,
        env=kept,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said = []
        for line in job.stdout or ():
            said.append(line)
            if line.startswith("search: "):
                break
        assert job.poll() is None, "".join(said)
        yield f"http://127.0.0.1:{port}", psutil.Process(job.pid)
    finally:
        job.send_signal(signal.SIGTERM)
        job.communicate(timeout=120)


def replica_bytes(job: psutil.Process) -> int:
    """Memory of the process that answers, without the files that it maps."""
    replicas = [p for p in job.children(recursive=True) if "ServeReplica" in p.cmdline()[0]]
    assert replicas
    lines = [Path(f"/proc/{p.pid}/status").read_text(encoding="ascii") for p in replicas]
    return sum(1024 * int(re.search(r"RssAnon:\s+(\d+)", each)[1]) for each in lines)


class Load:
    """What the users saw."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.errors: list[str] = []

    async def ask(self, client: aiohttp.ClientSession, kind: str, path: str, **query: str) -> dict:
        start = time.perf_counter()
        async with client.get(path, params=query) as answer:
            content = await answer.read()
            if answer.status != 200:
                self.errors.append(f"{path}: {answer.status} {content[:200]!r}")
            self.seconds.setdefault(kind, []).append(time.perf_counter() - start)
            return await answer.json() if answer.content_type == "application/json" else {}

    async def user(self, client: aiohttp.ClientSession, seed: int, until: float) -> None:
        rng = random.Random(seed)
        video = "video-0000000"
        await asyncio.sleep(rng.uniform(0, THINKS_S[1]))
        while time.monotonic() < until:
            sentence = " ".join(rng.choices(WORDS, k=rng.randint(3, 9)))
            kind = rng.random()
            if kind < 0.75:
                found = await self.ask(client, "/search", "/search", q=sentence)
                if found.get("answers"):
                    video = rng.choice(found["answers"][0]["results"])["video_id"]
            elif kind < 0.9:
                await self.ask(client, "/attention", "/attention", video=video, q=sentence)
            elif kind < 0.95:
                await self.ask(client, "/similar", "/similar", video=video)
            else:
                await self.ask(client, "/health", "/health")
            await asyncio.sleep(rng.uniform(*THINKS_S))


async def load(address: str, seconds: float) -> Load:
    seen = Load()
    async with aiohttp.ClientSession(
        address, connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(120)
    ) as client:
        until = time.monotonic() + seconds
        await asyncio.gather(*(seen.user(client, seed, until) for seed in range(NUM_USERS)))
    return seen


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_load(tmp_path, capsys):
    made = synthetic_index(tmp_path / "index", NUM_VIDEOS)
    index = open_index(made.folder, made.model.pooling, num_threads=2)
    with_recall(made, measure_recall(index, made.queries, "synthetic texts"))
    del index
    with served(made.folder, "--queries-per-minute", "100000") as (address, job):
        asyncio.run(load(address, SECONDS / 2))  # threads, buffers and the compiler's cache
        before = replica_bytes(job)
        start = time.monotonic()
        seen = asyncio.run(load(address, SECONDS))
        spent = time.monotonic() - start
        after = replica_bytes(job)
    with capsys.disabled():
        print(f"\n{NUM_USERS} users, {NUM_VIDEOS:,} videos, ViT-B/32, {machine_and_load()}")
        for kind, values in sorted(seen.seconds.items()):
            p50, p99 = np.percentile(values, [50, 99])
            print(
                f"  {kind:11} {len(values):5} answers, {len(values) / spent:5.1f}/s, "
                f"p50 {1e3 * p50:6.0f} ms, p99 {1e3 * p99:6.0f} ms"
            )
        print(
            f"  {len(seen.errors)} errors; memory of the replica {before / 1e6:.0f} MB before, "
            f"{after / 1e6:.0f} MB after {spent:.0f} s"
        )
    assert not seen.errors, seen.errors[:3]
    assert after <= 1.05 * before
