"""The similarity of a whole test set: exact, tiled, without the embedding of any pair."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor

from xpool.attention_scorer import AttentionScorer
from xpool.baseline_scorers import FrameWeightScorer, MeanScorer
from xpool.pooling import (
    CrossAttentionPooling,
    MeanPooling,
    Pooling,
    SoftmaxPooling,
    TopKPooling,
)
from xpool.scorer import Scorer, Terms, Workspace

TEXTS_PER_TILE = 1024
VALUES_PER_TILE = 2**22
"""Numbers in the buffers of a tile, 16 MiB of float32: they stay in a processor's cache."""


@torch.no_grad()
def make_scorer(pooling: Pooling, dtype: torch.dtype = torch.float32) -> Scorer:
    """A pooling made ready to score, once for many calls: they take it in the pooling's place.

    It computes in `dtype`, or in that of the pooling's parameters if that is more precise.
    """
    with _full_precision():
        for parameter in pooling.parameters():
            dtype = torch.promote_types(dtype, parameter.dtype)
        match pooling:
            case CrossAttentionPooling():
                return AttentionScorer(pooling, dtype)
            case MeanPooling():
                return MeanScorer(dtype)
            case TopKPooling() | SoftmaxPooling():
                return FrameWeightScorer(pooling, dtype)
    raise TypeError(f"{type(pooling).__name__} has no scorer; write one as in baseline_scorers.py")


@torch.no_grad()
def score_matrix(
    pooling: Pooling | Scorer,
    text_embeds: Float[Tensor, "num_texts embed_dim"],
    videos: Float[Tensor, "num_videos num_frames embed_dim"] | Terms,
    *,
    texts_per_tile: int = TEXTS_PER_TILE,
    videos_per_tile: int | None = None,
    check_videos: bool = True,
    work: Workspace | None = None,
) -> Float[Tensor, "num_texts num_videos"]:
    """Cosine similarity of every text with every video as pooled for it.

    The videos are their frames' embeddings, or the terms that `video_terms` made of them. Dropout
    is off, whatever the pooling's mode, and the arithmetic is float32 at least, also within
    autocast. Memory beyond the result does not grow with the product of texts and videos. Raises
    ValueError for an empty set, shapes that do not fit, or embeddings that are not finite; of
    videos only with `check_videos`, since looking at each number takes as long as a search. `work`
    has buffers that several calls may share, one after the other.
    """
    with _full_precision():
        if texts_per_tile < 1 or (videos_per_tile is not None and videos_per_tile < 1):
            raise ValueError(f"tiles must hold 1 or more, not {texts_per_tile}, {videos_per_tile}")
        scorer = _scorer(pooling, text_embeds)
        _check_pair(scorer, text_embeds, videos, check_videos=check_videos)
        texts = scorer.text_terms(text_embeds)
        work = work or Workspace(texts.dtype, text_embeds.device)
        first = videos[:1] if isinstance(videos, Terms) else scorer.video_terms(videos[:1])
        values_per_video = scorer.values_per_text(first) * min(texts_per_tile, len(texts))
        if first.dtype != texts.dtype:  # then the terms of a tile are converted into a buffer
            values_per_video = max(values_per_video, first.values_per_row)
        step = videos_per_tile or max(1, VALUES_PER_TILE // values_per_video)
        scores = text_embeds.new_empty(len(texts), len(videos), dtype=texts.dtype)
        for j in range(0, len(videos), step):
            tile = videos[j : j + step]
            terms = work.converted(tile) if isinstance(tile, Terms) else scorer.video_terms(tile)
            for i in range(0, len(texts), texts_per_tile):
                rows = slice(i, i + texts_per_tile)
                scores[rows, j : j + step] = scorer.scores(texts[rows], terms, work).T
        return scores


@torch.no_grad()
def video_terms(
    pooling: Pooling | Scorer, frame_embeds: Float[Tensor, "num_videos num_frames embed_dim"]
) -> Terms:
    """What scores need of each video, whatever the text: to be computed once and kept.

    `score_matrix` takes them in place of the embeddings, in float16 too. Raises ValueError as it
    does.
    """
    with _full_precision():
        _check("frame_embeds", frame_embeds, ("num_videos", "num_frames", "embed_dim"))
        return _scorer(pooling, frame_embeds).video_terms(frame_embeds)


@torch.no_grad()
def attention_weights(
    pooling: Pooling | Scorer,
    text_embeds: Float[Tensor, "num_texts embed_dim"],
    videos: Float[Tensor, "num_videos num_frames embed_dim"] | Terms,
    pairs: Int[Tensor, "num_pairs 2"],
) -> Float[Tensor, "num_pairs num_frames"]:
    """The share of each frame in each (text, video) pair, rows of indices; a row sums to 1.

    With several heads, the mean over the heads; for `topk`, equal shares of the chosen frames.
    Raises ValueError as `score_matrix` does, and for a pair of a text or video that is not there.
    """
    with _full_precision():
        scorer = _scorer(pooling, text_embeds)
        _check_pair(scorer, text_embeds, videos)
        sizes = torch.tensor([len(text_embeds), len(videos)])
        if pairs.ndim != 2 or pairs.shape[1] != 2:
            raise ValueError(f"pairs must be [num_pairs, 2], not {list(pairs.shape)}")
        outside = ((pairs < 0) | (pairs >= sizes.to(pairs.device))).any(dim=1)
        if outside.any():
            raise ValueError(
                f"pair {pairs[outside][0].tolist()} is not among {sizes[0]} texts and {sizes[1]} "
                "videos"
            )
        texts = scorer.text_terms(text_embeds[pairs[:, 0]])
        chosen = videos[pairs[:, 1]]
        terms = scorer.video_terms(chosen) if isinstance(chosen, Tensor) else chosen.to(texts.dtype)
        return scorer.frame_weights(texts, terms)


def _scorer(pooling: Pooling | Scorer, embeds: Tensor) -> Scorer:
    if isinstance(pooling, Scorer):
        return pooling
    return make_scorer(pooling, torch.promote_types(torch.float32, embeds.dtype))


def _check_pair(
    scorer: Scorer, text_embeds: Tensor, videos: Tensor | Terms, *, check_videos: bool = True
) -> None:
    _check("text_embeds", text_embeds, ("num_texts", "embed_dim"))
    if isinstance(videos, Terms):
        _check_terms(scorer, text_embeds, videos)
        if check_videos:
            check_finite_terms(videos)
        return
    _check("frame_embeds", videos, ("num_videos", "num_frames", "embed_dim"))
    if videos.shape[-1] != text_embeds.shape[-1]:
        raise ValueError(
            f"text_embeds {list(text_embeds.shape)} and frame_embeds {list(videos.shape)} differ "
            "in their width, the last axis"
        )


def _check_terms(scorer: Scorer, text_embeds: Tensor, videos: Terms) -> None:
    if set(videos.tensors) != set(scorer.video_term_names):
        raise ValueError(
            f"the video terms are {', '.join(videos.tensors)}, and this pooling has "
            f"{', '.join(scorer.video_term_names)}: they were made with another"
        )
    width = scorer.embed_dim_of(videos)
    if width != text_embeds.shape[1]:
        raise ValueError(
            f"the video terms are of width {width}, and text_embeds {list(text_embeds.shape)}: "
            "they were made with another pooling or model"
        )


def check_finite_terms(videos: Terms) -> None:
    """Raise ValueError if a number in the terms of videos is not finite, or there is no video."""
    for name, tensor in videos.tensors.items():
        _check(f"video terms {name!r}", tensor, ("num_videos", *["..."] * (tensor.ndim - 1)))


def _check(name: str, embeds: Tensor, axes: tuple[str, ...]) -> None:
    if embeds.ndim != len(axes) or not embeds.numel():
        raise ValueError(
            f"{name} must be [{', '.join(axes)}], none of them 0, not {list(embeds.shape)}"
        )
    # a sum is finite only if all that it adds are, but for an overflow; only then look closer
    if not torch.isfinite(embeds.sum()):
        rows = (~torch.isfinite(embeds.flatten(1))).any(dim=1).nonzero().flatten().tolist()
        if rows:
            kind = axes[0].removeprefix("num_").removesuffix("s")
            raise ValueError(
                f"{name} of {len(rows)} {kind}s are not finite, the first of {kind} {rows[0]}"
            )


@contextmanager
def _full_precision() -> Iterator[None]:
    """Float32 is float32: neither autocast to bfloat16 nor TF32 within matrix products."""
    backends = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
