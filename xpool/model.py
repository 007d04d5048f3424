"""X-Pool whole: text tokens and frames to embeddings, and the pooling between them."""

import math
from typing import Any

import open_clip
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from xpool.clip import build_clip
from xpool.config import LossConfig, ModelConfig
from xpool.optim import MAX_LOGIT_SCALE
from xpool.pooling import build_pooling
from xpool.transforms import normalize_frames


class XPool(nn.Module):
    """CLIP towers and a pooling of frames above them.

    Attributes: `clip` (the towers), `pooling`, `embed_dim`, `image_size` (pixels a side).
    """

    def __init__(self, clip: Any, config: ModelConfig) -> None:
        super().__init__()
        preprocess = open_clip.get_model_preprocess_cfg(clip)
        self.clip: Any = clip
        size = preprocess["size"]
        self.image_size: int = size if isinstance(size, int) else size[0]
        self.image_mean = tuple(preprocess.get("mean", open_clip.OPENAI_DATASET_MEAN))
        self.image_std = tuple(preprocess.get("std", open_clip.OPENAI_DATASET_STD))
        self.embed_dim: int = _embed_dim(clip, self.image_size)
        self.pooling = build_pooling(config, self.embed_dim)

    @property
    def logit_scale(self) -> Float[Tensor, ""]:
        """The logarithm of the scale on the similarities, CLIP's own parameter."""
        return self.clip.logit_scale

    def encode_text(
        self, tokens: Int[Tensor, "num_texts context_length"]
    ) -> Float[Tensor, "num_texts embed_dim"]:
        """Embeddings of texts, not normalised."""
        return self.clip.encode_text(tokens)

    def encode_frames(
        self, video: UInt8[Tensor, "num_videos num_frames 3 height width"]
    ) -> Float[Tensor, "num_videos num_frames embed_dim"]:
        """Embeddings of each frame, not normalised. Float video is taken as normalised already."""
        if not video.is_floating_point():
            video = normalize_frames(video, self.image_mean, self.image_std)
        embeds = self.clip.encode_image(video.flatten(0, 1))
        return embeds.unflatten(0, video.shape[:2])

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Keep the scale at most 100; to be called after every optimiser step."""
        self.logit_scale.clamp_(max=MAX_LOGIT_SCALE)


def build_model(
    config: ModelConfig, loss: LossConfig | None = None, *, load_pretrained: bool = True
) -> XPool:
    """The model of a config; the loss config sets where the logit scale starts and if it learns.

    Raises ValueError as `xpool.clip.build_clip` does, and if num_heads does not divide the width.
    """
    model = XPool(build_clip(config, load_pretrained=load_pretrained), config)
    loss = loss or LossConfig()
    if loss.temperature is not None:
        model.logit_scale.data.fill_(math.log(1 / loss.temperature))
    model.logit_scale.requires_grad_(loss.learnable_temperature)
    return model


@torch.no_grad()
def _embed_dim(clip: Any, image_size: int) -> int:
    was_training = clip.training
    embeds = clip.eval().encode_image(torch.zeros(1, 3, image_size, image_size))
    clip.train(was_training)
    return embeds.shape[-1]
