"""Scoring whole test sets, against pooling every pair: [BENCH_RUNS=5] make bench."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from machine import listed, machine_name, peak_bytes_of, seconds_of
from torch import Tensor

from xpool.bootstrap import bootstrap_intervals
from xpool.metrics import metrics_of_ranks, retrieval_ranks
from xpool.pooling import (
    CrossAttentionPooling,
    MeanPooling,
    Pooling,
    SoftmaxPooling,
    TopKPooling,
)
from xpool.scoring import score_matrix, video_terms
from xpool.similarity import similarity_matrix

NUM_RUNS = int(os.environ.get("BENCH_RUNS", "5"))
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MSRVTT = (1_000, 1_000)
MSVD = (27_763, 670)
NUM_FRAMES, EMBED_DIM = 12, 512

POOLINGS: dict[str, Callable[[], Pooling]] = {
    "1 head": lambda: CrossAttentionPooling(EMBED_DIM, 1),
    "4 heads": lambda: CrossAttentionPooling(EMBED_DIM, 4),
    "mean": MeanPooling,
    "top-k": lambda: TopKPooling(3),
    "softmax": lambda: SoftmaxPooling(0.01),
}


def make(name: str, num_texts: int, num_videos: int) -> tuple[Pooling, Tensor, Tensor]:
    """A pooling that is not the identity, texts and frames."""
    torch.manual_seed(0)
    pooling = POOLINGS[name]().eval()
    for parameter in pooling.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    texts = torch.randn(num_texts, EMBED_DIM, device=DEVICE)
    return pooling.to(DEVICE), texts, torch.randn(num_videos, NUM_FRAMES, EMBED_DIM, device=DEVICE)


@torch.no_grad()
def direct_scores(pooling: Pooling, texts: Tensor, frames: Tensor, tile: tuple[int, int]) -> Tensor:
    """The model's own pooling and cosine of every pair, in tiles of (texts, videos)."""
    scores = texts.new_empty(len(texts), len(frames))
    for i in range(0, len(texts), tile[0]):
        rows = texts[i : i + tile[0]]
        for j in range(0, len(frames), tile[1]):
            pooled = pooling(rows, frames[j : j + tile[1]])
            scores[i : i + tile[0], j : j + tile[1]] = similarity_matrix(rows, pooled)
    return scores


TILES = [(1000, 1), (1000, 2), (1000, 8), (1000, 32), (250, 8), (100, 100)]


def seconds_by_tile(
    pooling: Pooling, texts: Tensor, frames: Tensor
) -> dict[tuple[int, int], float]:
    """What the direct formula takes in tiles of (texts, videos), from a tenth of the videos."""
    part = frames[: len(frames) // 10]
    return {
        tile: 10
        * min(seconds_of(lambda: direct_scores(pooling, texts, part, tile)) for _ in range(2))  # noqa: B023
        for tile in TILES
    }


@pytest.mark.slow
def test_msrvtt(capsys):
    inputs = {name: make(name, *MSRVTT) for name in POOLINGS}
    head = inputs["1 head"]
    by_tile = seconds_by_tile(*head)
    tile = min(by_tile, key=lambda tile: by_tile[tile])
    torch.testing.assert_close(score_matrix(*head), direct_scores(*head, tile), rtol=0, atol=1e-5)
    kept = video_terms(head[0], head[2])
    times: dict[str, list[float]] = {"direct": [], "kept": [], **{n: [] for n in POOLINGS}}
    for _ in range(NUM_RUNS):
        times["direct"].append(seconds_of(lambda: direct_scores(*head, tile)))
        times["kept"].append(seconds_of(lambda: score_matrix(head[0], head[1], kept)))
        for name, arguments in inputs.items():
            times[name].append(seconds_of(lambda: score_matrix(*arguments)))  # noqa: B023
    peaks = {name: measured("peak", name) for name in ("1 head", "4 heads", "top-k")}
    at_once_s, at_once_peak = measured("seconds at once", "1 head"), measured("at once", "1 head")
    with capsys.disabled():
        print(f"\n1,000 texts x 1,000 videos x 12 frames x 512 on {machine_name()}")
        print(f"  direct formula, tiles of {tile}: {listed(times['direct'])}")
        others = ", ".join(f"{tile} {seconds:.1f} s" for tile, seconds in by_tile.items())
        print(f"  direct formula by tile, from a tenth of the videos: {others}")
        print(
            f"  direct formula, all pairs at once: {at_once_s:.1f} s, {at_once_peak / 1e9:.1f} GB"
        )
        medians = {name: statistics.median(values) for name, values in times.items()}
        for name in POOLINGS:
            by = f"{medians['direct'] / medians[name]:.0f} times faster than the direct formula"
            to = f"{medians[name] / medians['1 head']:.2f} of 1 head"
            print(f"  {name:8} {listed(times[name])}: {by}, {to}")
        by = f"{medians['direct'] / medians['kept']:.0f} times faster than the direct formula"
        print(f"  1 head, the videos' terms kept: {listed(times['kept'])}: {by}")
        for name, peak in peaks.items():
            print(f"  {name:8} {peak / 1e6:.0f} MB beyond inputs and result")
    assert max(peaks.values()) <= 200e6
    assert max(medians[name] for name in POOLINGS) <= 4 * medians["1 head"]


@pytest.mark.slow
def test_msvd(capsys):
    pooling, texts, frames = make("1 head", *MSVD)
    times: dict[str, list[float]] = {"scores": [], "metrics of both directions": []}
    times["95 % intervals"] = []
    for _ in range(NUM_RUNS):
        times["scores"].append(seconds_of(lambda: score_matrix(pooling, texts, frames)))
        scores = score_matrix(pooling, texts, frames).cpu().numpy()
        of_text = video_of_text(*MSVD)
        times["metrics of both directions"].append(
            seconds_of(lambda: metrics_of_ranks(retrieval_ranks(scores, of_text)))  # noqa: B023
        )
        ranks = retrieval_ranks(scores, of_text)
        times["95 % intervals"].append(seconds_of(lambda: bootstrap_intervals(ranks)))  # noqa: B023
    peak = measured("report", "1 head")
    with capsys.disabled():
        print(f"\n27,763 texts x 670 videos x 12 frames x 512 on {machine_name()}")
        for name, values in times.items():
            print(f"  {name}: {listed(values)}")
        print(f"  {peak / 1e6:.0f} MB beyond inputs, the score matrix of 74 MB included")
    assert peak <= 2e9


def video_of_text(num_texts: int, num_videos: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    more = rng.integers(num_videos, size=num_texts - num_videos)
    return np.concatenate([np.arange(num_videos), more])


def measured(what: str, name: str) -> float:
    """A figure that a fresh process takes of itself."""
    done = subprocess.run(
        [sys.executable, __file__, what, name],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def report_of(pooling: Pooling, texts: Tensor, frames: Tensor) -> object:
    scores = score_matrix(pooling, texts, frames).cpu().numpy()
    ranks = retrieval_ranks(scores, video_of_text(*scores.shape))
    return scores, metrics_of_ranks(ranks), bootstrap_intervals(ranks)


def main() -> None:
    """Measure this process; the libraries load and the threads start before."""
    what, name = sys.argv[1:]
    few = make(name, 8, 8)
    score_matrix(*few), direct_scores(*few, (8, 8))
    arguments = make(name, *(MSVD if what == "report" else MSRVTT))
    result_bytes = 4 * MSRVTT[0] * MSRVTT[1]
    match what:
        case "peak":
            print(peak_bytes_of(lambda: score_matrix(*arguments)) - result_bytes)
        case "at once":
            print(peak_bytes_of(lambda: direct_scores(*arguments, MSRVTT)) - result_bytes)
        case "seconds at once":
            print(seconds_of(lambda: direct_scores(*arguments, MSRVTT)))
        case "report":
            print(peak_bytes_of(lambda: report_of(*arguments)))


if __name__ == "__main__":
    main()
