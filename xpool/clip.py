"""The CLIP towers, through open_clip; `tiny` ones train from scratch on a CPU in minutes."""

import gzip
import io
import logging
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import open_clip
import torch
from jaxtyping import Float, Int
from open_clip.tokenizer import SimpleTokenizer, default_bpe
from torch import Tensor, nn

from xpool.clip_names import check_clip_name
from xpool.config import ModelConfig
from xpool.tiny import TINY, TINY_CONFIG, TINY_NUM_MERGES

T = TypeVar("T")

BELOW_THE_LAYERS = "conv1", "class_embedding", "positional_embedding", "ln_pre", "token_embedding"
"""Parts of open_clip's towers that come before their first layer."""

Tokenizer = Callable[[list[str]], Tensor]
"""Captions to tokens [num_texts, context_length]; longer captions are cut."""


def build_clip(config: ModelConfig, *, load_pretrained: bool = True) -> nn.Module:
    """The towers of the config, with `encode_image`, `encode_text` and `logit_scale`.

    Without load_pretrained their weights stay random, to be filled from a checkpoint of ours.
    Raises ValueError if the name, tag or file is unknown, or the weights cannot be had.
    """
    check_clip_name(config, with_weights=load_pretrained)
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
            # with a tag comes how its images are normalised, also where its weights do not
            force_preprocess_cfg=_normalisation(config),
        ),
        config,
    )


def freeze_lower_layers(clip: nn.Module, num_layers: int) -> None:
    """Let the embeddings and the lowest layers of both towers keep their weights.

    Raises ValueError if a tower is no transformer, or has fewer layers.
    """
    text = getattr(clip, "text", clip)
    for whose, tower in (("image", getattr(clip, "visual", clip)), ("text", text)):
        blocks = getattr(getattr(tower, "transformer", None), "resblocks", None)
        if blocks is None or num_layers > len(blocks):
            has = "is no transformer" if blocks is None else f"has {len(blocks)} layers"
            raise ValueError(f"optim.frozen_layers is {num_layers}, and the {whose} tower {has}")
        for name in BELOW_THE_LAYERS:
            part = getattr(tower, name, None)
            for parameter in part.parameters() if isinstance(part, nn.Module) else [part]:
                if isinstance(parameter, nn.Parameter):
                    parameter.requires_grad_(False)
        for block in blocks[:num_layers]:
            block.requires_grad_(False)


def encode_text_prefix(
    clip: Any, tokens: Int[Tensor, "num_texts context_length"]
) -> Float[Tensor, "num_texts embed_dim"]:
    """What `clip.encode_text` gives, up to rounding, without the work on what follows the texts.

    CLIP's text tower is causal and is read at the end token, so that the padding after it has no
    part in the result; of a sentence that is most of the 77 tokens. Towers of another kind read
    all.
    """
    is_causal = isinstance(clip, open_clip.CLIP) and clip.attn_mask is not None
    if not is_causal or clip.text_pool_type != "argmax":
        return clip.encode_text(tokens)
    ends = tokens.argmax(dim=-1)  # the end token has the largest number
    length = int(ends.max()) + 1
    dtype = clip.transformer.get_cast_dtype()
    x = clip.token_embedding(tokens[:, :length]).to(dtype)
    x = x + clip.positional_embedding[:length].to(dtype)
    x = clip.ln_final(clip.transformer(x, attn_mask=clip.attn_mask[:length, :length]))
    x = x[torch.arange(len(x), device=x.device), ends]
    project = clip.text_projection
    return project(x) if isinstance(project, nn.Linear) else x @ project


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
            logging.getLogger().addFilter(_asked_for)
            return load()
    except Exception as error:  # a file of another kind fails in its own way
        reason = " ".join(str(error).split())
        raise ValueError(
            f"model.clip_pretrained {config.clip_pretrained!r} could not be loaded into "
            f"{config.clip_name}: {reason[:500]}"
        ) from error
    finally:
        logging.getLogger().removeFilter(_asked_for)


def _asked_for(record: logging.LogRecord) -> bool:
    """Drops open_clip's warning of random weights, which is given only where we ask for them."""
    return "No pretrained weights loaded" not in record.getMessage()


def _normalisation(config: ModelConfig) -> dict[str, Any]:
    """Mean and standard deviation of the pixels, where the pretrained tag has its own."""
    tag = open_clip.get_pretrained_cfg(config.clip_name, config.clip_pretrained) or {}
    return {name: tag[name] for name in ("mean", "std") if tag.get(name)}


def _needs_quick_gelu(config: ModelConfig) -> bool:
    tag = open_clip.get_pretrained_cfg(config.clip_name, config.clip_pretrained)
    return bool(tag.get("quick_gelu")) if tag else config.quick_gelu
