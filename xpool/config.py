"""What a model is and how its parameters learn."""

from dataclasses import dataclass
from typing import Literal

PoolingName = Literal["xpool", "mean", "topk", "softmax"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """CLIP towers and the pooling of frames above them."""

    clip_name: str = "ViT-B-32"
    """A model name of open_clip, or `tiny`: small towers that train from scratch on a CPU."""

    clip_pretrained: str = ""
    """A pretrained tag of open_clip (`openai`), a checkpoint file, or empty for random weights."""

    quick_gelu: bool = False
    """QuickGELU in the towers, for a checkpoint file that needs it; a pretrained tag sets this."""

    pooling: PoolingName = "xpool"
    """How frames become a video: `xpool` (attention of the text), `mean`, `topk` or `softmax`."""

    num_heads: int = 1
    """Attention heads of X-Pool's pooling; must divide the width of the embeddings."""

    dropout: float = 0.3
    """Dropout in X-Pool's pooling, from 0 to below 1."""

    top_k: int = 3
    """Frames that `topk` pooling keeps, those most like the text."""

    softmax_temperature: float = 0.01
    """Temperature of `softmax` pooling, above 0."""

    def __post_init__(self) -> None:
        if self.num_heads < 1:
            raise ValueError(f"model.num_heads must be at least 1, not {self.num_heads}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"model.dropout must be in [0, 1), not {self.dropout}")
        if self.top_k < 1:
            raise ValueError(f"model.top_k must be at least 1, not {self.top_k}")
        if not self.softmax_temperature > 0:
            raise ValueError(
                f"model.softmax_temperature must be above 0, not {self.softmax_temperature}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class LossConfig:
    """The symmetric cross-entropy of a batch's similarities."""

    temperature: float | None = None
    """Initial temperature, the inverse of the logit scale; None keeps that of the CLIP towers."""

    learnable_temperature: bool = True
    """Whether the logit scale learns (clamped to at most 100, as in CLIP)."""

    def __post_init__(self) -> None:
        if self.temperature is not None and not self.temperature >= 0.01:
            raise ValueError(
                "loss.temperature must be at least 0.01 (the logit scale is clamped to 100), "
                f"not {self.temperature}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    """CLIP is fine-tuned gently; the pooling learns from its identity start."""

    clip_lr: float = 1e-6
    """Peak learning rate of the CLIP towers and the logit scale."""

    pooling_lr: float = 1e-5
    """Peak learning rate of everything else, the pooling."""

    frozen_layers: int = 0
    """Lowest transformer layers of both towers, and what lies below them, that do not learn."""

    weight_decay: float = 0.2
    """AdamW's decay, on every parameter."""

    eps: float = 1e-6
    """AdamW's epsilon."""

    warmup_fraction: float = 0.1
    """Share of all steps in which the learning rates rise linearly from 0, from 0 to 1."""

    max_grad_norm: float = 1.0
    """The gradient's norm over all parameters is clipped to this."""

    def __post_init__(self) -> None:
        for name in ("clip_lr", "pooling_lr", "frozen_layers", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"optim.{name} must be at least 0, not {getattr(self, name)}")
        for name in ("eps", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"optim.{name} must be above 0, not {getattr(self, name)}")
        if not 0 <= self.warmup_fraction <= 1:
            raise ValueError(f"optim.warmup_fraction must be in [0, 1], not {self.warmup_fraction}")
