"""The authors' optimiser: two learning rates, linear warm-up, cosine decay."""

import math

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from xpool.adamw import AdamW
from xpool.config import OptimConfig

MAX_LOGIT_SCALE = math.log(100.0)
"""The logit scale is clamped to this logarithm after every step, as in CLIP."""


def build_optimizer(model: nn.Module, config: OptimConfig) -> AdamW:
    """AdamW over two groups, `clip` and `pooling`; a group without parameters is left out.

    What lies under `clip.`, the logit scale included, learns at clip_lr, everything else at
    pooling_lr. Parameters that need no gradient are left out.
    """
    clip: list[nn.Parameter] = []
    pooling: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (clip if name.startswith("clip.") else pooling).append(parameter)
    groups = [
        {"name": "clip", "params": clip, "lr": config.clip_lr},
        {"name": "pooling", "params": pooling, "lr": config.pooling_lr},
    ]
    return AdamW(
        [group for group in groups if group["params"]],
        eps=config.eps,
        weight_decay=config.weight_decay,
    )


def build_schedule(
    optimizer: torch.optim.Optimizer, config: OptimConfig, num_steps: int
) -> LambdaLR:
    """Per step: linear from 0 over the warm-up's share of num_steps, then a half cosine to 0."""
    num_warmup_steps = int(config.warmup_fraction * num_steps)
    return LambdaLR(optimizer, lambda step: warmup_cosine(step, num_warmup_steps, num_steps))


def warmup_cosine(step: int, num_warmup_steps: int, num_steps: int) -> float:
    """The factor on the peak learning rate at a step, counted from 0."""
    if step < num_warmup_steps:
        return step / num_warmup_steps
    progress = (step - num_warmup_steps) / max(1, num_steps - num_warmup_steps)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))
