"""How the ranks of the truth and the similarities are distributed."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from xpool_platform.report import DIRECTIONS
from xpool_platform.tracking.figures.canvas import WIDTH_IN, tidy
from xpool_platform.tracking.figures.colours import BLUE, CHANCE, DIRECTION, GREY

MAX_OTHER_PAIRS = 500_000
FEW_BINS = 11
"""So many labels fit side by side."""


def rank_bins(num_videos: int) -> list[tuple[int, int]]:
    """Ranges of ranks, first and last: single ones to 3, then 4–5, 6–10, 11–20, 21–50 and on."""
    ends, step = [1, 2, 3, 5, 10], 10
    while ends[-1] < num_videos:
        ends += [2 * step, 5 * step, 10 * step]
        step *= 10
    ends = [end for end in ends if end < num_videos] + [num_videos]
    return list(zip([1, *(end + 1 for end in ends)], ends, strict=False))


def rank_figure(ranks: Mapping[str, Int[np.ndarray, " num_queries"]], num_videos: int) -> Figure:
    """The share of queries by the rank of the truth, for each direction, and that by chance."""
    bins = rank_bins(num_videos)
    edges = [first for first, _ in bins] + [num_videos + 1]
    figure = Figure(figsize=(WIDTH_IN, 3.8), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(ranks)
    places = np.arange(len(bins))
    for i, (direction, values) in enumerate(ranks.items()):
        counts, _ = np.histogram(values, edges)
        heights = 100 * counts / len(values)
        bars = axes.bar(
            places + (i - (len(ranks) - 1) / 2) * width,
            heights,
            width,
            color=DIRECTION[direction],
            label=f"{DIRECTIONS[direction]}, {len(values):,} queries, median rank "
            f"{np.median(values):g}",
        )
        labels = [f"{height:.0f}" if height >= 0.5 else "" for height in heights]
        axes.bar_label(bars, labels, fontsize=7 if len(bins) <= FEW_BINS else 6, padding=1)
    chance = 100 * np.diff(edges) / num_videos
    axes.step(
        np.append(places, len(bins)) - 0.5,
        np.append(chance, chance[-1]),
        where="post",
        color=CHANCE,
        linestyle=":",
        label="chance",
    )
    names = [f"{first:,}" if first == last else f"{first:,}–{last:,}" for first, last in bins]
    axes.set_xticks(places, names)
    axes.set_xlabel(f"rank of the truth among {num_videos:,} videos", fontsize=9)
    axes.set_ylabel("% of the queries", fontsize=9)
    axes.set_title("Where the truth is ranked", fontsize=11, fontweight="bold")
    tidy(axes)
    if len(bins) > FEW_BINS:
        axes.tick_params(axis="x", rotation=30)
    axes.legend(fontsize=8)
    return figure


def similarity_figure(
    matching: Float[np.ndarray, " num_matching"], other: Float[np.ndarray, " num_other"]
) -> Figure:
    """The densities of the similarities of matching pairs and of the others, if there are any."""
    pairs: Sequence[tuple[str, np.ndarray, str, str]] = [
        ("matching pairs", matching, BLUE, "///"),
        ("other pairs", other, GREY, ""),
    ]
    both = np.concatenate([matching, other])
    low, high = float(both.min()), float(both.max())
    edges = np.linspace(low, high if high > low else low + 1e-3, 61)
    figure = Figure(figsize=(WIDTH_IN, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, values, colour, hatch in pairs:
        if not len(values):
            continue
        heights = np.histogram(values, edges)[0] / len(values)
        axes.stairs(
            heights / np.diff(edges),
            edges,
            fill=True,
            facecolor=(colour, 0.45),
            edgecolor=colour,
            hatch=hatch,
            label=f"{name}, mean {values.mean():.3f}",
        )
    axes.set_xlabel("cosine similarity of caption and pooled video", fontsize=9)
    axes.set_ylabel("density", fontsize=9)
    axes.set_title("Similarities of matching and of other pairs", fontsize=11, fontweight="bold")
    tidy(axes)
    axes.legend(fontsize=8)
    return figure


def pair_similarities(
    scores: Float[np.ndarray, "num_texts num_videos"],
    video_of_text: Int[np.ndarray, " num_texts"],
    *,
    seed: int = 0,
) -> tuple[Float[np.ndarray, " num_matching"], Float[np.ndarray, " num_other"]]:
    """Scores of matching pairs, and of the others: all, or of many a drawn MAX_OTHER_PAIRS."""
    num_texts, num_videos = scores.shape
    matching = scores[np.arange(num_texts), video_of_text]
    num_others = num_texts * (num_videos - 1)
    rng = np.random.default_rng(seed)
    if num_others > MAX_OTHER_PAIRS:
        texts = rng.integers(num_texts, size=MAX_OTHER_PAIRS)
        shifts = rng.integers(1, num_videos, size=MAX_OTHER_PAIRS)
    else:
        texts, shifts = (axis.ravel() for axis in np.mgrid[:num_texts, 1:num_videos])
    return matching, scores[texts, (video_of_text[texts] + shifts) % num_videos]
