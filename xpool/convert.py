"""The checkpoints that X-Pool's authors published, as models of ours.

Theirs name CLIP's parameters as Hugging Face's transformers does (`clip.*`) and keep the pooling
under `pool_frames.*`; ours hold CLIP as open_clip names it.
"""

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
from torch import Tensor

from xpool.config import ModelConfig
from xpool.model import XPool

HEAD_WIDTH = 64
"""Width of an attention head in all of CLIP's transformers."""

MAX_LISTED = 12
IGNORED = re.compile(r"clip\.(text|vision)_model\.embeddings\.position_ids")
"""Buffers that transformers kept until its version 4.31: the numbers from 0 up."""


@dataclass(frozen=True, slots=True)
class _Move:
    """A parameter of ours and what it is made of."""

    target: str
    sources: tuple[str, ...]
    """Names in the file; several are stacked along the first axis."""

    transposed: bool = False


def load_reference_checkpoint(path: str | Path, config: ModelConfig | None = None) -> XPool:
    """The model of an authors' `.pth` file, in evaluation mode. No code in the file is run.

    The geometry of the towers is read from the file; they have QuickGELU, and attention heads of
    width 64. The config says what a file does not: the number of heads of the pooling, by default
    one as in the paper. With another pooling than `xpool` only the towers are taken.

    Raises ValueError if the file cannot be read as weights alone, or is no such checkpoint; the
    message lists the parameters that are missing and those that are unexpected.
    """
    config = config or ModelConfig()
    weights = _read(Path(path))
    text_layers = _num_layers(weights, "clip.text_model.encoder.layers.")
    vision_layers = _num_layers(weights, "clip.vision_model.encoder.layers.")
    moves = [*_clip_moves(text_layers, vision_layers)]
    if config.pooling == "xpool":
        moves += _pooling_moves()
    known = {source for move in moves for source in move.sources}
    missing = sorted(known - weights.keys())
    unexpected = sorted(
        name
        for name in weights.keys() - known
        if not IGNORED.fullmatch(name)
        and not (config.pooling != "xpool" and name.startswith("pool_frames."))
    )
    if missing or unexpected:
        raise ValueError(
            f"{path} is not a checkpoint of X-Pool's authors: "
            f"missing {_listed(missing)}; unexpected {_listed(unexpected)}"
        )
    try:
        model = XPool(_build_clip(weights, text_layers, vision_layers), config)
        model.load_state_dict({move.target: _moved(weights, move) for move in moves})
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        reason = " ".join(str(error).split())[:500]
        raise ValueError(f"the parameters in {path} do not fit each other: {reason}") from error
    return model.eval()


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of unusual pickles, judged below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"there is no checkpoint {path}") from None
    except Exception as error:  # a file of another kind fails in its own way
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path} cannot be read as weights without running code that it may hold: {reason}"
        ) from error
    weights = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(weights, dict):
        raise ValueError(f"{path} holds a {type(content).__name__} and no `state_dict`")
    return {
        str(name): value.float() if value.is_floating_point() else value
        for name, value in weights.items()
        if isinstance(value, Tensor)
    }


def _num_layers(weights: Iterable[str], prefix: str) -> int:
    """Layers that the file has; where it has none, those of ViT-B/32."""
    indices = {
        int(match[1])
        for name in weights
        if (match := re.match(re.escape(prefix) + r"(\d+)\.", name))
    }
    return len(indices) or 12


def _build_clip(
    weights: Mapping[str, Tensor], text_layers: int, vision_layers: int
) -> open_clip.CLIP:
    vision, text = "clip.vision_model.embeddings.", "clip.text_model.embeddings."
    vision_width, _, patch_size, _ = weights[f"{vision}patch_embedding.weight"].shape
    num_patches = len(weights[f"{vision}position_embedding.weight"]) - 1
    vocab_size, text_width = weights[f"{text}token_embedding.weight"].shape
    mlp = "encoder.layers.0.mlp.fc1.weight"
    return open_clip.CLIP(
        embed_dim=len(weights["clip.text_projection.weight"]),
        vision_cfg={
            "image_size": round(num_patches**0.5) * patch_size,
            "patch_size": patch_size,
            "width": vision_width,
            "layers": vision_layers,
            "head_width": min(HEAD_WIDTH, vision_width),
            "mlp_ratio": len(weights[f"clip.vision_model.{mlp}"]) / vision_width,
        },
        text_cfg={
            "context_length": len(weights[f"{text}position_embedding.weight"]),
            "vocab_size": vocab_size,
            "width": text_width,
            "heads": max(1, text_width // HEAD_WIDTH),
            "layers": text_layers,
            "mlp_ratio": len(weights[f"clip.text_model.{mlp}"]) / text_width,
        },
        quick_gelu=True,
    )


def _moved(weights: Mapping[str, Tensor], move: _Move) -> Tensor:
    tensors = [weights[name] for name in move.sources]
    value = torch.cat(tensors) if len(tensors) > 1 else tensors[0]
    return value.T.contiguous() if move.transposed else value


def _clip_moves(text_layers: int, vision_layers: int) -> Iterator[_Move]:
    text, vision = "clip.text_model", "clip.vision_model"
    for target, source in (
        ("clip.logit_scale", "clip.logit_scale"),
        ("clip.token_embedding.weight", f"{text}.embeddings.token_embedding.weight"),
        ("clip.positional_embedding", f"{text}.embeddings.position_embedding.weight"),
        ("clip.visual.class_embedding", f"{vision}.embeddings.class_embedding"),
        ("clip.visual.conv1.weight", f"{vision}.embeddings.patch_embedding.weight"),
        ("clip.visual.positional_embedding", f"{vision}.embeddings.position_embedding.weight"),
    ):
        yield _Move(target, (source,))
    yield _Move("clip.text_projection", ("clip.text_projection.weight",), transposed=True)
    yield _Move("clip.visual.proj", ("clip.visual_projection.weight",), transposed=True)
    yield from _pair("clip.ln_final", f"{text}.final_layer_norm")
    yield from _pair("clip.visual.ln_pre", f"{vision}.pre_layrnorm")  # so spelt in transformers
    yield from _pair("clip.visual.ln_post", f"{vision}.post_layernorm")
    yield from _layer_moves("clip.transformer", text, text_layers)
    yield from _layer_moves("clip.visual.transformer", vision, vision_layers)


def _layer_moves(ours: str, theirs: str, num_layers: int) -> Iterator[_Move]:
    for i in range(num_layers):
        target, source = f"{ours}.resblocks.{i}", f"{theirs}.encoder.layers.{i}"
        for kind in ("weight", "bias"):
            stacked = tuple(f"{source}.self_attn.{x}_proj.{kind}" for x in "qkv")
            yield _Move(f"{target}.attn.in_proj_{kind}", stacked)
        yield from _pair(f"{target}.attn.out_proj", f"{source}.self_attn.out_proj")
        yield from _pair(f"{target}.ln_1", f"{source}.layer_norm1")
        yield from _pair(f"{target}.ln_2", f"{source}.layer_norm2")
        yield from _pair(f"{target}.mlp.c_fc", f"{source}.mlp.fc1")
        yield from _pair(f"{target}.mlp.c_proj", f"{source}.mlp.fc2")


def _pooling_moves() -> Iterator[_Move]:
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        yield from _pair(f"pooling.{name}", f"pool_frames.cross_attn.{name}")
    for name in ("linear_proj", "layer_norm1", "layer_norm2", "layer_norm3"):
        yield from _pair(f"pooling.{name}", f"pool_frames.{name}")


def _pair(target: str, source: str) -> Iterator[_Move]:
    for kind in ("weight", "bias"):
        yield _Move(f"{target}.{kind}", (f"{source}.{kind}",))


def _listed(names: list[str]) -> str:
    if not names:
        return "nothing"
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return f"{len(names)} ({', '.join(names[:MAX_LISTED])}{more})"
