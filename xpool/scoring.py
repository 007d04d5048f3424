"""The similarity of a whole test set."""

import torch
from jaxtyping import Float
from torch import Tensor

from xpool.pooling import Pooling
from xpool.similarity import similarity_matrix

TILE_BYTES = 64 * 2**20
"""Pooled embeddings held at once."""


@torch.no_grad()
def score_matrix(
    pooling: Pooling,
    text_embeds: Float[Tensor, "num_texts embed_dim"],
    frame_embeds: Float[Tensor, "num_videos num_frames embed_dim"],
) -> Float[Tensor, "num_texts num_videos"]:
    """Cosine similarity of every text with every video as pooled for it, in tiles over both.

    Dropout is off, whatever the pooling's mode. Raises ValueError if a set is empty or the widths
    differ.
    """
    num_texts, embed_dim = text_embeds.shape
    num_videos = len(frame_embeds)
    if not num_texts or not num_videos:
        raise ValueError(f"nothing to score: {num_texts} texts and {num_videos} videos")
    if frame_embeds.shape[-1] != embed_dim:
        raise ValueError(f"texts of width {embed_dim}, frames of width {frame_embeds.shape[-1]}")
    was_training = pooling.training
    pooling.eval()
    pairs_per_tile = max(1, TILE_BYTES // (4 * embed_dim))
    texts_per_tile = min(num_texts, pairs_per_tile)
    videos_per_tile = max(1, pairs_per_tile // texts_per_tile)
    scores = text_embeds.new_empty(num_texts, num_videos)
    for i in range(0, num_texts, texts_per_tile):
        texts = text_embeds[i : i + texts_per_tile]
        for j in range(0, num_videos, videos_per_tile):
            pooled = pooling(texts, frame_embeds[j : j + videos_per_tile])
            scores[i : i + texts_per_tile, j : j + videos_per_tile] = similarity_matrix(
                texts, pooled
            )
    pooling.train(was_training)
    return scores
