"""Checkpoints: a folder with the weights, the config and what was reached; whole or not there."""

import os
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from xpool.model import XPool, build_model
from xpool_platform.checkpoint_files import (
    CONFIG,
    WEIGHTS,
    CheckpointState,
    read_state,
    write_state,
)
from xpool_platform.config import ExperimentConfig
from xpool_platform.config_io import read_config, write_config


def save_checkpoint(
    folder: Path, model: XPool, config: ExperimentConfig, state: CheckpointState
) -> None:
    """Write the folder under a temporary name and give it its own when it is whole."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    temporary.mkdir(parents=True)
    try:
        weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        save_file(weights, temporary / WEIGHTS)
        write_config(config, temporary / CONFIG)
        write_state(temporary, state)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load_checkpoint(folder: Path) -> tuple[XPool, ExperimentConfig, CheckpointState]:
    """The model, in evaluation mode, with its config and state. Nothing is unpickled."""
    config = read_config(folder / CONFIG)
    model = build_model(config.model, config.loss, load_pretrained=False)
    model.load_state_dict(load_file(folder / WEIGHTS))
    return model.eval(), config, read_state(folder)


class CheckpointKeeper:
    """Keeps the last and the best checkpoint of a run, by score; of equal ones, the earlier."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.last: tuple[Path, CheckpointState] | None = None
        self.best: tuple[Path, CheckpointState] | None = None

    def add(self, model: XPool, config: ExperimentConfig, state: CheckpointState) -> None:
        """Write a checkpoint and remove those that are neither the last nor the best any more."""
        path = self.folder / f"step_{state.step:07d}"
        save_checkpoint(path, model, config, state)
        before = [entry for entry in (self.last, self.best) if entry is not None]
        self.last = path, state
        if self.best is None or state.score > self.best[1].score:
            self.best = self.last
        for old, _ in before:
            if old not in (self.last[0], self.best[0]):
                shutil.rmtree(old, ignore_errors=True)
