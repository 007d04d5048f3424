"""Searching 100,000 videos: [BENCH_RUNS=30 BENCH_VIDEOS=100000] make bench ARGS="-k search"."""

import os
import statistics
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from machine import machine_and_load, seconds_of
from synthetic_index import NUM_FRAMES, SyntheticIndex, synthetic_index, with_recall

from xpool_platform.search.index_files import CANDIDATES, SEGMENTS
from xpool_platform.search.recall import measure_recall
from xpool_platform.search.search_index import open_index
from xpool_platform.search.segment_files import TERMS

NUM_RUNS = int(os.environ.get("BENCH_RUNS", "30"))
NUM_VIDEOS = int(os.environ.get("BENCH_VIDEOS", "100000"))
NUM_THREADS = len(os.sched_getaffinity(0))
K = 10


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> SyntheticIndex:
    return synthetic_index(tmp_path_factory.mktemp("search") / "index", NUM_VIDEOS)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_search(made, capsys):
    torch.set_num_threads(NUM_THREADS)
    index = open_index(made.folder, made.model.pooling, num_threads=NUM_THREADS)
    batches = [index.segments[0].batch(i) for i in range(index.segments[0].num_batches)]
    words = [
        tensor.view(torch.int64) for terms in batches for tensor in terms.tensors.values()
    ]  # the same memory, as numbers whose sum costs nothing
    num_bytes = sum(tensor.nbytes for tensor in words)

    def read() -> None:
        for tensor in words:
            tensor.sum()

    queries = made.queries
    index.search(queries[:1], K, "exhaustive"), index.search(queries[:1], K, "two-stage"), read()
    times: dict[str, list[float]] = {
        name: [] for name in ("read", "exhaustive", "two-stage", "32 at once")
    }
    for run in range(NUM_RUNS):
        query = queries[run % len(queries)][None]
        times["read"].append(seconds_of(read))
        times["exhaustive"].append(seconds_of(lambda: index.search(query, K, "exhaustive")))  # noqa: B023
        times["two-stage"].append(seconds_of(lambda: index.search(query, K, "two-stage")))  # noqa: B023
        if run % 5 == 0:
            several = queries[torch.arange(run, run + 32) % len(queries)]
            times["32 at once"].append(
                seconds_of(lambda: index.search(several, K, "exhaustive"))  # noqa: B023
            )
    start = time.perf_counter()
    recall = measure_recall(index, queries, "synthetic texts")
    spent = time.perf_counter() - start
    with_recall(made, recall)
    folder = made.folder / SEGMENTS / made.version.segments[0].name
    with capsys.disabled():
        print(f"\n{NUM_VIDEOS:,} videos x {NUM_FRAMES} frames x 512 on {machine_and_load()}")
        print(f"  terms {num_bytes / 1e9:.2f} GB in memory, {_gb(folder / TERMS)} GB on disk, ")
        print(f"  first stage {_gb(folder / CANDIDATES)} GB on disk")
        for name, values in times.items():
            low, high = np.percentile(values, [10, 90])
            print(
                f"  {name:12} {1e3 * statistics.median(values):6.1f} ms "
                f"(10 to 90 %: {1e3 * low:.1f} to {1e3 * high:.1f})"
            )
        by = [a / b for a, b in zip(times["exhaustive"], times["read"], strict=True)]
        low, high = np.percentile(by, [10, 90])
        print(
            f"  exhaustive / reading the terms once just before: {statistics.median(by):.2f} "
            f"(10 to 90 %: {low:.2f} to {high:.2f})"
        )
        print(
            f"  two stages: recall@10 {recall.at_10:.4f} against exhaustive with "
            f"{recall.num_queries} queries ({spent:.0f} s)"
        )
    assert recall.at_10 >= 0.99


def _gb(path: Path) -> str:
    return f"{path.stat().st_size / 1e9:.2f}"
