"""The model that an index was made with: a copy within it, and the name that it goes by."""

import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import save

from xpool.convert import load_reference_checkpoint
from xpool.model import XPool
from xpool_platform.checkpoint import copied, load_checkpoint
from xpool_platform.checkpoint_files import (
    CONFIG,
    STATE,
    WEIGHTS,
    CheckpointState,
    is_checkpoint,
    read_checkpoint_config,
    read_file,
    state_bytes,
    write_files,
)
from xpool_platform.config import EvaluationConfig, ExperimentConfig
from xpool_platform.config_io import as_kind, config_bytes, portable
from xpool_platform.data.video import FrameSettings
from xpool_platform.errors import UserError
from xpool_platform.evaluate.trained_model import load_model
from xpool_platform.locations import read_whole

Config = TypeVar("Config", bound=ExperimentConfig)

REFERENCE = "reference.pth"
"""The copy of a file of the authors."""

FORMAT = 1
"""Raised when the same model begins to give other terms."""


def with_trained_settings(config: Config, checkpoint: str) -> Config:
    """The config with the model of a checkpoint of ours, and the frames that it was trained on.

    A file of the authors says neither: there the config's own stay.
    """
    if not is_checkpoint(checkpoint):
        return config
    return with_settings_of(config, read_checkpoint_config(checkpoint))


def with_settings_of(config: Config, trained: ExperimentConfig) -> Config:
    """The config with the model of another one, and what that sees of a video."""
    own = trained.data
    data = replace(
        config.data,
        num_frames=own.num_frames,
        frames_per_second=own.frames_per_second,
        short_side=own.short_side,
        jpeg_quality=own.jpeg_quality,
        decoder=own.decoder,
    )
    return replace(config, data=data, model=trained.model, loss=trained.loss)


def load_any_model(config: ExperimentConfig, checkpoint: str) -> XPool:
    """The model of a checkpoint of ours or of the authors' file, in evaluation mode.

    Raises UserError as `load_model` does.
    """
    return load_model(as_kind(config, EvaluationConfig, checkpoint=checkpoint))


def fingerprint_of(model: XPool, config: ExperimentConfig) -> str:
    """A name for all that decides on embeddings and scores: weights, pooling, frames."""
    digest = hashlib.blake2b(digest_size=16)
    pooling = config.model
    what = {
        "format": FORMAT,
        "towers": (pooling.clip_name, pooling.quick_gelu),
        "pooling": (pooling.pooling, pooling.num_heads, pooling.top_k, pooling.softmax_temperature),
        "frames": (config.data.num_frames, asdict(FrameSettings.of(config.data))),
        "pixels": (model.image_size, model.image_mean, model.image_std),
    }
    digest.update(repr(what).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def save_indexed_model(
    folder: Path, model: XPool, config: ExperimentConfig, *, reference: str = ""
) -> None:
    """A copy of the model, to be read again; its training's paths are not in it.

    `reference` is the authors' file that the model was read from, if it was: that is copied, since
    only it says how its towers are built.
    """
    files: dict[str, bytes] = {CONFIG: config_bytes(portable(config))}
    if reference:
        files[REFERENCE] = read_whole(reference).to_pybytes()
    else:
        files[WEIGHTS] = save(copied(model.state_dict()))
        files[STATE] = state_bytes(CheckpointState(step=0))
    write_files(str(folder), files)


def load_indexed_model(folder: Path, fingerprint: str) -> tuple[XPool, ExperimentConfig]:
    """The copy, which has to be the model of this fingerprint. Raises UserError if it is not."""
    config = read_checkpoint_config(str(folder))
    if (folder / REFERENCE).is_file():
        read_file(str(folder), REFERENCE)  # compares it with its hash
        model = load_reference_checkpoint(folder / REFERENCE, config.model)
    else:
        model = load_checkpoint(folder)[0]
    if fingerprint_of(model, config) != fingerprint:
        raise UserError(
            f"{folder} is not the model that the index was made with, so its scores would mean "
            "nothing; make the index anew with jobs/index.py"
        )
    return model, config
