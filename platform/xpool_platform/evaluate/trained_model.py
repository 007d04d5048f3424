"""The model that is evaluated: a checkpoint of ours, one of the authors', or zero-shot."""

from dataclasses import replace

import torch
from safetensors import SafetensorError

from xpool.clip import build_tokenizer
from xpool.config import ModelConfig
from xpool.convert import load_reference_checkpoint
from xpool.model import XPool, build_model
from xpool.pooling import build_pooling
from xpool_platform.checkpoint import load_checkpoint
from xpool_platform.config import EvaluationConfig
from xpool_platform.errors import UserError
from xpool_platform.locations import is_file, local_file
from xpool_platform.pretrained_weights import with_local_weights


def load_model(config: EvaluationConfig) -> XPool:
    """The model, in evaluation mode. Raises UserError if the file and the config do not agree."""
    try:
        if not config.checkpoint:
            with with_local_weights(config.model) as local:
                model = build_model(local).eval()
        elif is_file(config.checkpoint):
            with local_file(config.checkpoint) as path:
                model = load_reference_checkpoint(path, config.model)
        else:
            model = _own_checkpoint(config)
    except ValueError as error:
        raise UserError(str(error)) from error
    _check_tokens(model, config)
    return model


def _own_checkpoint(config: EvaluationConfig) -> XPool:
    """A checkpoint of ours, under its own pooling or one that has nothing to learn."""
    try:
        model, trained, _ = load_checkpoint(config.checkpoint)
    except (RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"checkpoint {config.checkpoint} cannot be loaded: {reason}") from error
    wanted, had = _identity(config.model), _identity(trained.model)
    if wanted == had:
        return model
    if wanted[:2] != had[:2] or config.model.pooling == "xpool":
        raise UserError(
            f"--model.* asks for {_in_words(config.model)}, and checkpoint {config.checkpoint} "
            f"holds {_in_words(trained.model)}; leave --model.* out, or name a pooling without "
            "parameters: mean, topk or softmax"
        )
    model.pooling = build_pooling(config.model, model.embed_dim)
    return model.eval()


def _identity(model: ModelConfig) -> tuple[object, ...]:
    """What decides which parameters there are, and what they do."""
    plain = replace(model, clip_pretrained="", dropout=0.0)
    if plain.pooling == "xpool":
        pooling: tuple[object, ...] = (plain.pooling, plain.num_heads)
    else:
        pooling = (plain.pooling, plain.top_k, plain.softmax_temperature)
    return plain.clip_name, plain.quick_gelu, *pooling


def _in_words(model: ModelConfig) -> str:
    heads = f" of {model.num_heads} heads" if model.pooling == "xpool" else ""
    gelu = ", QuickGELU" if model.quick_gelu else ""
    return f"{model.clip_name}{gelu} under {model.pooling} pooling{heads}"


@torch.no_grad()
def _check_tokens(model: XPool, config: EvaluationConfig) -> None:
    """Raise UserError if the tokenizer of the config is not that of the towers."""
    tokens = build_tokenizer(config.model)(["a"])
    length, largest = tokens.shape[1], int(tokens.max())
    clip = model.clip
    has_length = getattr(clip, "context_length", length)
    has_vocabulary = getattr(clip, "vocab_size", largest + 1)
    if length != has_length or largest >= has_vocabulary:
        raise UserError(
            f"checkpoint {config.checkpoint} reads {has_length} tokens of a vocabulary of "
            f"{has_vocabulary}, and the tokenizer of {config.model.clip_name} gives {length} "
            f"tokens up to number {largest}; set --model.clip-name to the towers it was made with"
        )
