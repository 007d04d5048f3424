"""Which captions and videos the figures of attention show."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int, UInt8
from matplotlib.figure import Figure

from xpool.pooling import Pooling
from xpool.scoring import attention_weights, video_terms
from xpool_platform.evaluate.encode import SplitEmbeds
from xpool_platform.tracking.figures.attention import (
    CaptionAttention,
    attention_figure,
    moved_attention_figure,
)

FramesOf = Callable[[int], UInt8[np.ndarray, "num_frames height width 3"]]
"""The frames that the model sees of the video of this row."""

MAX_VIDEOS, MAX_CAPTIONS = 200, 12
"""Among which, at even distances, the one whose attention moves most is looked for."""

MAX_SHOWN = 5
PAIRS_AT_ONCE = 1024


def own_attention_figure(
    pooling: Pooling,
    videos: pa.Table,
    embeds: SplitEmbeds,
    frames_of: FramesOf,
    *,
    num_captions: int,
) -> Figure:
    """Captions spread evenly over a split, each over its own video's frames."""
    texts = [text for captions in videos["captions"].to_pylist() for text in captions]
    chosen = _spread(np.arange(len(texts)), num_captions)
    own = embeds.video_of_text[chosen]
    weights = attention_weights(
        pooling,
        embeds.text_embeds,
        embeds.frame_embeds,
        torch.from_numpy(np.stack([chosen, own], axis=1)),
    )
    return attention_figure(
        [
            CaptionAttention(caption=texts[text], frames=frames_of(video), weights=shares)
            for text, video, shares in zip(
                chosen.tolist(), own.tolist(), weights.cpu().numpy(), strict=True
            )
        ]
    )


def most_moved_figure(
    pooling: Pooling, videos: pa.Table, embeds: SplitEmbeds, frames_of: FramesOf
) -> Figure:
    """The video over whose frames its captions differ most, and those of them that differ.

    Where every video has one caption, its own comes first and then those of other videos.
    """
    texts = [text for captions in videos["captions"].to_pylist() for text in captions]
    by_video = np.split(
        np.argsort(embeds.video_of_text, kind="stable"),
        np.cumsum(np.bincount(embeds.video_of_text, minlength=len(videos)))[:-1],
    )
    several = np.array([i for i, own in enumerate(by_video) if len(own) > 1], dtype=int)
    candidates = _spread(several if len(several) else np.arange(len(videos)), MAX_VIDEOS)
    if len(several):
        texts_of = [_spread(by_video[video], MAX_CAPTIONS) for video in candidates]
    else:
        others = _spread(np.arange(len(texts)), MAX_CAPTIONS)
        texts_of = [np.unique([by_video[video][0], *others]) for video in candidates]
    weights = _weights(pooling, embeds, candidates, texts_of)
    moved = [_distances(each).mean() for each in weights]
    best = int(np.argmax(moved))
    video, of_video, shares = int(candidates[best]), texts_of[best], weights[best]
    first = None if len(several) else int(np.flatnonzero(of_video == by_video[video][0])[0])
    video_id = videos["video_id"][video].as_py()
    whose = "its own captions" if len(several) else "its own caption, then those of other videos"
    return moved_attention_figure(
        [
            CaptionAttention(
                caption=texts[of_video[row]], frames=frames_of(video), weights=shares[row]
            )
            for row in _differing(shares, first)
        ],
        whose=f"{whose}, over the frames of {video_id}",
    )


def _weights(
    pooling: Pooling,
    embeds: SplitEmbeds,
    candidates: Int[np.ndarray, " num_candidates"],
    texts_of: Sequence[Int[np.ndarray, " num_texts"]],
) -> list[Float[np.ndarray, "num_texts num_frames"]]:
    """For each candidate the weights of its frames by each of these texts."""
    terms = video_terms(pooling, embeds.frame_embeds[torch.from_numpy(candidates)])
    counts = [len(of_video) for of_video in texts_of]
    pairs = torch.from_numpy(
        np.stack([np.concatenate(texts_of), np.repeat(np.arange(len(candidates)), counts)], axis=1)
    )
    weights = torch.cat(
        [
            attention_weights(pooling, embeds.text_embeds, terms, some)
            for some in pairs.split(PAIRS_AT_ONCE)
        ]
    )
    return np.split(weights.cpu().numpy(), np.cumsum(counts)[:-1])


def _distances(
    weights: Float[np.ndarray, "num_texts num_frames"],
) -> Float[np.ndarray, "num_texts num_texts"]:
    """Total variation distance of each two rows."""
    return 0.5 * np.abs(weights[:, None] - weights[None]).sum(axis=-1)


def _differing(weights: Float[np.ndarray, "num_texts num_frames"], first: int | None) -> list[int]:
    """MAX_SHOWN rows, each next the furthest from its nearest before it."""
    distances = _distances(weights)
    chosen = [int(distances.sum(axis=1).argmax()) if first is None else first]
    while len(chosen) < min(MAX_SHOWN, len(weights)):
        nearest = distances[chosen].min(axis=0)
        nearest[chosen] = -1
        chosen.append(int(nearest.argmax()))
    return chosen if first is not None else sorted(chosen)


def _spread(values: Int[np.ndarray, " num_values"], count: int) -> Int[np.ndarray, " num_chosen"]:
    """At most so many of the values, at even distances."""
    places = np.linspace(0, len(values) - 1, min(count, len(values)))
    return values[places.round().astype(int)]
