"""Checks that take seconds and save hours: before anything is made, decoded or trained."""

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from xpool_platform.config import ExperimentConfig
from xpool_platform.config_io import flatten
from xpool_platform.credentials import refuse_credentials
from xpool_platform.errors import UserError
from xpool_platform.locations import absolute, is_file, is_uri
from xpool_platform.output_dir import resolve_output_dir

Config = TypeVar("Config", bound=ExperimentConfig)

MIN_FREE_BYTES = 500 * 2**20
"""What a run of the smallest experiment may write: corpus, frames, checkpoints, Ray's files."""


def with_absolute_paths(config: Config, *, goes_on: bool = False) -> Config:
    """The config with its paths taken from this folder, since workers run in others.

    XPOOL_CHECKPOINTS_DIR, XPOOL_FRAMES_DIR and MLFLOW_TRACKING_URI stand in for what is left out,
    unless it is of a run that goes on.
    Raises UserError for one that holds credentials, and for an output folder that is no folder.
    """
    refuse_credentials(flatten(config))
    said = {} if goes_on else os.environ
    pretrained = config.model.clip_pretrained
    if not is_uri(pretrained) and is_file(absolute(pretrained)):  # else it may be a tag
        pretrained = absolute(pretrained)
    config = replace(
        config,
        output_dir=str(resolve_output_dir(config.output_dir)),
        train=replace(
            config.train,
            checkpoints_dir=absolute(
                config.train.checkpoints_dir or said.get("XPOOL_CHECKPOINTS_DIR", "")
            ),
        ),
        data=replace(
            config.data,
            root=absolute(config.data.root),
            annotations=absolute(config.data.annotations),
            frames_dir=absolute(config.data.frames_dir or said.get("XPOOL_FRAMES_DIR", "")),
        ),
        model=replace(config.model, clip_pretrained=pretrained),
        tracking=replace(
            config.tracking, uri=config.tracking.uri or said.get("MLFLOW_TRACKING_URI", "")
        ),
    )
    refuse_credentials(flatten(config))
    return config


def prepare_output_dir(config: ExperimentConfig) -> Path:
    """The output folder, made and proven writable.

    Raises UserError if it cannot be written to or its disk is nearly full.
    """
    folder = Path(config.output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
    except OSError as error:
        raise UserError(
            f"output_dir {str(folder)!r} cannot be written to ({error.strerror}); "
            "set --output-dir to a folder that can"
        ) from error
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
        raise UserError(
            f"output_dir {str(folder)!r} has {free / 2**20:.0f} MiB of space left, and a run needs "
            f"at least {MIN_FREE_BYTES / 2**20:.0f}; free some or set --output-dir elsewhere"
        )
    return folder


def check_learning(config: ExperimentConfig) -> None:
    """Raise UserError if nothing of the model would learn."""
    if config.optim.clip_lr == 0 and config.model.pooling != "xpool":
        raise UserError(
            f"optim.clip_lr 0 freezes the towers, and model.pooling {config.model.pooling!r} has "
            "nothing to learn; set --model.pooling xpool or --optim.clip-lr 1e-6, or evaluate "
            "without training: python jobs/evaluate.py"
        )
