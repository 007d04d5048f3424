"""Checkpoints: a folder with the weights, the config and what was reached; whole or not there."""

import contextlib
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from xpool.model import XPool, build_model
from xpool_platform.checkpoint_files import (
    CONFIG,
    MANIFEST,
    STATE,
    STEP,
    TRAINING,
    WEIGHTS,
    CheckpointState,
    DamagedCheckpointError,
    best_first,
    checkpoint_name,
    checkpoints_below,
    read_file,
    read_state,
    state_bytes,
    write_files,
    write_state,
)
from xpool_platform.config import ExperimentConfig
from xpool_platform.config_io import config_bytes, parse_config
from xpool_platform.locations import files_below, remove_file, remove_folder


def load_checkpoint(location: str | Path) -> tuple[XPool, ExperimentConfig, CheckpointState]:
    """The model, in evaluation mode, with its config and state. Nothing is unpickled.

    Raises DamagedCheckpointError if a file is not as it was written.
    """
    config = parse_config(read_file(str(location), CONFIG).to_pybytes(), str(location))
    model = build_model(config.model, config.loss, load_pretrained=False)
    model.load_state_dict(load_weights(location))
    return model.eval(), config, read_state(str(location))


def load_weights(location: str | Path) -> dict[str, Tensor]:
    """The weights alone. Raises DamagedCheckpointError if they are not as they were written."""
    return load(read_file(str(location), WEIGHTS).to_pybytes())


@dataclass(frozen=True, slots=True)
class TrainingFile:
    """What a training keeps besides weights, in the host's memory and nobody else's."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


class CheckpointKeeper:
    """Writes the checkpoints of a run, beside the training, and keeps the last and the best.

    Of equal scores the earlier is the better. Attributes: `states`, by step, of those that are
    whole; an error of writing is raised by the next call.
    """

    def __init__(self, location: str, *, keep_last: int = 1, keep_best: int = 1) -> None:
        self.location = location
        self.states: dict[int, CheckpointState] = {}
        self._keep_last, self._keep_best = keep_last, keep_best
        self._pool = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None
        for step, folder in checkpoints_below(location).items():
            with contextlib.suppress(DamagedCheckpointError):
                self.states[step] = read_state(folder)

    @property
    def best(self) -> int | None:
        """The step of the best checkpoint."""
        return next(iter(best_first(self.states)), None)

    @property
    def last(self) -> int:
        """The step of the last checkpoint."""
        return max(self.states)

    def of_step(self, step: int) -> str:
        """Where the checkpoint of a step is."""
        return f"{self.location}/{checkpoint_name(step)}"

    def add(
        self,
        model: XPool,
        config: ExperimentConfig,
        state: CheckpointState,
        training: TrainingFile,
    ) -> None:
        """Copy what is to be written, and begin to write it. Waits for the one before."""
        self.wait()
        weights = copied(model.state_dict())

        def write() -> None:
            files = {
                WEIGHTS: save(weights),
                TRAINING: save(training.tensors, training.metadata),
                CONFIG: config_bytes(config),
                STATE: state_bytes(state),
            }
            location = self.of_step(state.step)
            try:
                write_files(location, files)
            except OSError:
                remove_folder(location)
                raise
            self.states[state.step] = state
            self._remove_others()

        self._writing = self._pool.submit(write)

    def score(self, state: CheckpointState) -> None:
        """Give the checkpoint of state.step its score. Waits for the one that is being written."""
        self.wait()
        write_state(self.of_step(state.step), state)
        self.states[state.step] = state
        self._remove_others()

    def wait(self) -> None:
        """Until everything is written. Raises OSError if it could not be."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def tidy(self, step: int) -> None:
        """Remove what is left of checkpoints that were never whole, or are of later steps."""
        names = {checkpoint_name(s) for s in self.states if s <= step}
        there = {Path(info.path).parent.name for info in files_below(self.location)}
        for name in {each for each in there if each.startswith(STEP)} - names:
            remove_folder(f"{self.location}/{name}")
        self.states = {s: state for s, state in self.states.items() if s <= step}

    def _remove_others(self) -> None:
        best = best_first(self.states)[: self._keep_best]
        last = sorted(self.states)[-self._keep_last :]
        for step in set(self.states) - {*best, *last}:
            self._remove(step)

    def _remove(self, step: int) -> None:
        folder = self.of_step(step)
        remove_file(f"{folder}/{MANIFEST}")  # from here on it is not there
        remove_folder(folder)
        del self.states[step]


@torch.no_grad()
def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies in the host's memory, which later steps leave alone."""
    return {
        name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()
    }
