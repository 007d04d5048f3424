"""From the frames of a video to its embedding: X-Pool's attention and the baselines beside it.

Every pooling is called with text_embeds [num_texts, embed_dim] and frame_embeds
[num_videos, num_frames, embed_dim] and gives [num_videos, num_texts, embed_dim]: each video as
pooled for each text.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from xpool.config import ModelConfig


class Pooling(nn.Module, ABC):
    """A way to pool frames for a text."""

    @abstractmethod
    def forward(
        self,
        text_embeds: Float[Tensor, "num_texts embed_dim"],
        frame_embeds: Float[Tensor, "num_videos num_frames embed_dim"],
    ) -> Float[Tensor, "num_videos num_texts embed_dim"]:
        """Each video as pooled for each text."""


class CrossAttentionPooling(Pooling):
    """The text attends to the frames (X-Pool, section 3.4, equations 4 to 8).

    All projections start as the identity with zero bias, so that an untrained pooling is an
    attention over CLIP's own embeddings. Raises ValueError if num_heads does not divide embed_dim.
    """

    def __init__(self, embed_dim: int, num_heads: int = 1, dropout: float = 0.3) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(
                f"model.num_heads must divide the embeddings' width {embed_dim}, not {num_heads}"
            )
        self.num_heads = num_heads
        self.q_proj = _identity_linear(embed_dim)
        self.k_proj = _identity_linear(embed_dim)
        self.v_proj = _identity_linear(embed_dim)
        self.out_proj = _identity_linear(embed_dim)
        self.linear_proj = _identity_linear(embed_dim)
        self.layer_norm1 = nn.LayerNorm(embed_dim)
        self.layer_norm2 = nn.LayerNorm(embed_dim)
        self.layer_norm3 = nn.LayerNorm(embed_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        text_embeds: Float[Tensor, "num_texts embed_dim"],
        frame_embeds: Float[Tensor, "num_videos num_frames embed_dim"],
    ) -> Float[Tensor, "num_videos num_texts embed_dim"]:
        queries = self._split_heads(self.q_proj(self.layer_norm1(text_embeds)))
        frames = self.layer_norm1(frame_embeds)
        keys, values = (
            self._split_heads(self.k_proj(frames)),
            self._split_heads(self.v_proj(frames)),
        )
        weights = (queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5).softmax(dim=-1)
        attended = (weights @ values).transpose(1, 2).flatten(2)  # [num_videos, num_texts, width]
        attended = self.layer_norm2(self.out_proj(attended))
        return self.layer_norm3(attended + self.dropout(self.linear_proj(attended)))

    def _split_heads(
        self, x: Float[Tensor, "*batch length embed_dim"]
    ) -> Float[Tensor, "*batch num_heads length head_dim"]:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(-2, -3)


class MeanPooling(Pooling):
    """The mean of the L2-normalised frames, whatever the text says."""

    def forward(
        self,
        text_embeds: Float[Tensor, "num_texts embed_dim"],
        frame_embeds: Float[Tensor, "num_videos num_frames embed_dim"],
    ) -> Float[Tensor, "num_videos num_texts embed_dim"]:
        pooled = F.normalize(frame_embeds, dim=-1).mean(dim=1)
        return pooled[:, None].expand(-1, len(text_embeds), -1)


class TopKPooling(Pooling):
    """The sum of the k L2-normalised frames that are most like the text.

    Of a video with fewer than k frames, all of them.
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(
        self,
        text_embeds: Float[Tensor, "num_texts embed_dim"],
        frame_embeds: Float[Tensor, "num_videos num_frames embed_dim"],
    ) -> Float[Tensor, "num_videos num_texts embed_dim"]:
        return self._chosen(text_embeds, frame_embeds) @ F.normalize(frame_embeds, dim=-1)

    def _chosen(
        self,
        text_embeds: Float[Tensor, "num_texts embed_dim"],
        frame_embeds: Float[Tensor, "num_videos num_frames embed_dim"],
    ) -> Float[Tensor, "num_videos num_texts num_frames"]:
        similarity = _frame_similarity(text_embeds, frame_embeds)
        indices = similarity.topk(min(self.k, similarity.shape[-1]), dim=-1).indices
        return torch.zeros_like(similarity).scatter(-1, indices, 1.0)


class SoftmaxPooling(Pooling):
    """L2-normalised frames weighted by a softmax of their similarity with the text."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(
        self,
        text_embeds: Float[Tensor, "num_texts embed_dim"],
        frame_embeds: Float[Tensor, "num_videos num_frames embed_dim"],
    ) -> Float[Tensor, "num_videos num_texts embed_dim"]:
        similarity = _frame_similarity(text_embeds, frame_embeds)
        weights = (similarity / self.temperature).softmax(dim=-1)
        return weights @ F.normalize(frame_embeds, dim=-1)


def build_pooling(config: ModelConfig, embed_dim: int) -> Pooling:
    """The pooling that the config names, over embeddings of width embed_dim."""
    match config.pooling:
        case "xpool":
            return CrossAttentionPooling(embed_dim, config.num_heads, config.dropout)
        case "mean":
            return MeanPooling()
        case "topk":
            return TopKPooling(config.top_k)
        case "softmax":
            return SoftmaxPooling(config.softmax_temperature)


def _identity_linear(width: int) -> nn.Linear:
    linear = nn.Linear(width, width)
    nn.init.eye_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def _frame_similarity(
    text_embeds: Float[Tensor, "num_texts embed_dim"],
    frame_embeds: Float[Tensor, "num_videos num_frames embed_dim"],
) -> Float[Tensor, "num_videos num_texts num_frames"]:
    texts, frames = F.normalize(text_embeds, dim=-1), F.normalize(frame_embeds, dim=-1)
    return texts @ frames.transpose(-1, -2)
