"""The CLIP towers, through open_clip; `tiny` ones train from scratch on a CPU in minutes."""

import difflib
import gzip
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import open_clip
from open_clip.tokenizer import SimpleTokenizer, default_bpe
from torch import Tensor, nn

from xpool.config import ModelConfig

T = TypeVar("T")

Tokenizer = Callable[[list[str]], Tensor]
"""Captions to tokens [num_texts, context_length]; longer captions are cut."""

TINY = "tiny"
TINY_NUM_MERGES = 4096
"""Merges of CLIP's vocabulary that the tiny towers keep; rarer words become several tokens."""

TINY_CONFIG: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {
        "image_size": 48,
        "patch_size": 12,
        "width": 96,
        "layers": 2,
        "head_width": 32,
    },
    "text_cfg": {
        "context_length": 32,
        "vocab_size": 2 * 256 + TINY_NUM_MERGES + 2,
        "width": 96,
        "heads": 3,
        "layers": 2,
    },
}


def check_clip_name(config: ModelConfig) -> None:
    """Raise ValueError, with the nearest names, if open_clip knows no such towers or weights."""
    name, pretrained = config.clip_name, config.clip_pretrained
    known = [TINY, *open_clip.list_models()]
    if name not in known:
        raise ValueError(
            f"model.clip_name {name!r} is not known to open_clip{_nearest(name, known)}"
        )
    if not pretrained or Path(pretrained).is_file():
        return
    tags = [] if name == TINY else open_clip.list_pretrained_tags_by_model(name)
    if pretrained not in tags:
        raise ValueError(
            f"model.clip_pretrained {pretrained!r} is neither a checkpoint file nor a pretrained "
            f"tag of {name}; its tags: {', '.join(tags) or 'none'}"
        )


def clip_image_size(config: ModelConfig) -> int:
    """Pixels a side of what the image tower takes, known without building it."""
    name = config.clip_name
    model_config = TINY_CONFIG if name == TINY else open_clip.get_model_config(name)
    size = model_config["vision_cfg"]["image_size"]
    return size if isinstance(size, int) else size[0]


def build_clip(config: ModelConfig, *, load_pretrained: bool = True) -> nn.Module:
    """The towers of the config, with `encode_image`, `encode_text` and `logit_scale`.

    Without load_pretrained their weights stay random, to be filled from a checkpoint of ours.
    Raises ValueError if the name, tag or file is unknown, or the weights cannot be had.
    """
    check_clip_name(config)
    pretrained = config.clip_pretrained if load_pretrained else ""
    if config.clip_name == TINY:
        clip = open_clip.CLIP(**TINY_CONFIG, quick_gelu=config.quick_gelu)
        if pretrained:
            _load(lambda: open_clip.load_checkpoint(clip, pretrained), config)
        return clip
    return _load(
        lambda: open_clip.create_model(
            config.clip_name,
            pretrained=pretrained or None,
            force_quick_gelu=_needs_quick_gelu(config),
        ),
        config,
    )


def build_tokenizer(config: ModelConfig) -> Tokenizer:
    """The tokenizer that belongs to the towers."""
    if config.clip_name != TINY:
        return open_clip.get_tokenizer(config.clip_name)
    with gzip.open(default_bpe()) as file:
        header_and_merges = file.read().split(b"\n")[: 1 + TINY_NUM_MERGES]
    vocabulary = io.BytesIO(gzip.compress(b"\n".join(header_and_merges)))
    return SimpleTokenizer(
        bpe_path=vocabulary,  # it goes to gzip.open, which takes a file
        context_length=TINY_CONFIG["text_cfg"]["context_length"],
    )


def _load(load: Callable[[], T], config: ModelConfig) -> T:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return load()
    except (RuntimeError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"model.clip_pretrained {config.clip_pretrained!r} could not be loaded into "
            f"{config.clip_name}: {reason[:500]}"
        ) from error


def _needs_quick_gelu(config: ModelConfig) -> bool:
    tag = open_clip.get_pretrained_cfg(config.clip_name, config.clip_pretrained)
    return bool(tag.get("quick_gelu")) if tag else config.quick_gelu


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; nearest: {', '.join(close)}" if close else ""
