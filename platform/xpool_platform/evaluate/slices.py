"""R@1 by caption length, by frames and by duration of the videos."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from xpool.bootstrap import recalls_by_slice
from xpool.metrics import RetrievalRanks
from xpool_platform.tracking.figures.slices import Slicing

NUM_SLICES = 4


def quantile_slices(values: Sequence[float] | np.ndarray) -> tuple[np.ndarray, list[str]]:
    """About NUM_SLICES slices of equal size: the slice of each value, the range of each slice.

    Equal values are in one slice, so that there may be fewer.
    """
    values = np.asarray(values)
    shares = np.arange(1, NUM_SLICES + 1) / NUM_SLICES
    ends = np.unique(np.quantile(values, shares, method="inverted_cdf"))
    slices = np.searchsorted(ends, values)
    labels = []
    for i in range(len(ends)):
        low, high = values[slices == i].min(), values[slices == i].max()
        whole = np.issubdtype(values.dtype, np.integer)
        first, last = (f"{value:,}" if whole else f"{value:.1f}" for value in (low, high))
        labels.append(first if first == last else f"{first}–{last}")
    return slices, labels


def recall_slices(ranks: RetrievalRanks, videos: pa.Table, *, num_resamples: int) -> list[Slicing]:
    """R@1 sliced by words of the caption (t2v), by frames and by seconds of the video (both)."""
    lengths = [len(text.split()) for texts in videos["captions"].to_pylist() for text in texts]
    by_length, labels = quantile_slices(np.array(lengths))
    slicings = [
        _slicing(
            ranks,
            {"t2v": by_length},
            subject="caption length in words",
            labels=labels,
            num_resamples=num_resamples,
        )
    ]
    for subject, column in (
        ("number of frames kept of the video", "num_frames"),
        ("duration of the video in seconds", "duration_s"),
    ):
        by_video, labels = quantile_slices(np.array(videos[column].to_pylist()))
        slicings.append(
            _slicing(
                ranks,
                {"t2v": by_video[ranks.video_of_text], "v2t": by_video},
                subject=subject,
                labels=labels,
                num_resamples=num_resamples,
            )
        )
    return slicings


def _slicing(
    ranks: RetrievalRanks,
    slice_of_query: dict[str, Int[np.ndarray, " num_queries"]],
    *,
    subject: str,
    labels: list[str],
    num_resamples: int,
) -> Slicing:
    values = {
        "t2v": (ranks.t2v, ranks.video_of_text),
        "v2t": (ranks.v2t, np.arange(len(ranks.v2t))),
    }
    return Slicing(
        subject=subject,
        labels=labels,
        recalls={
            direction: recalls_by_slice(*values[direction], slices, num_resamples=num_resamples)
            for direction, slices in slice_of_query.items()
        },
        counts={
            direction: np.bincount(slices, minlength=len(labels)).tolist()
            for direction, slices in slice_of_query.items()
        },
    )
