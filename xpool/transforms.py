"""From decoded frames to what the image tower takes. Randomness is drawn once a clip.

Frames stay uint8 until they are on the device: `normalize_frames` is the last step there.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F


def train_transform(
    frames: UInt8[Tensor, "num_frames 3 height width"], image_size: int, rng: np.random.Generator
) -> UInt8[Tensor, "num_frames 3 image_size image_size"]:
    """A random crop of half to all of the area, resized, and a flip for half of the clips."""
    height, width = frames.shape[-2:]
    top, left, crop_height, crop_width = _random_crop(height, width, rng)
    crop = frames[..., top : top + crop_height, left : left + crop_width]
    resized = _resize(crop, image_size, image_size)
    return resized.flip(-1) if rng.random() < 0.5 else resized


def eval_transform(
    frames: UInt8[Tensor, "num_frames 3 height width"], image_size: int
) -> UInt8[Tensor, "num_frames 3 image_size image_size"]:
    """The short side resized to image_size, then the centre."""
    height, width = frames.shape[-2:]
    if height <= width:
        resized = _resize(frames, image_size, int(image_size * width / height))
    else:
        resized = _resize(frames, int(image_size * height / width), image_size)
    top = round((resized.shape[-2] - image_size) / 2)
    left = round((resized.shape[-1] - image_size) / 2)
    return resized[..., top : top + image_size, left : left + image_size]


def normalize_frames(
    frames: UInt8[Tensor, "*batch 3 height width"], mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "*batch 3 height width"]:
    """From 0..255 to the tower's distribution; mean and std are those of values in 0..1."""
    mean_255 = torch.tensor(mean, device=frames.device).mul(255).view(3, 1, 1)
    std_255 = torch.tensor(std, device=frames.device).mul(255).view(3, 1, 1)
    return (frames - mean_255) / std_255


def _random_crop(height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, height and width, by the rule of Inception training (Szegedy et al., 2015)."""
    for _ in range(10):
        area = height * width * rng.uniform(0.5, 1.0)
        aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        crop_width = round(math.sqrt(area * aspect))
        crop_height = round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = int(rng.integers(0, height - crop_height + 1))
            left = int(rng.integers(0, width - crop_width + 1))
            return top, left, crop_height, crop_width
    crop_width = min(width, round(height * 4 / 3))
    crop_height = min(height, round(width * 4 / 3))
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def _resize(frames: Tensor, height: int, width: int) -> Tensor:
    if frames.shape[-2:] == (height, width):
        return frames
    # antialias on a CPU and a uint8 tensor gives what torchvision's and PIL's bicubic give
    return F.interpolate(frames, (height, width), mode="bicubic", antialias=True)
