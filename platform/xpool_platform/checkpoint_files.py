"""Where checkpoints lie and what is said beside their weights; light to import."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from xpool_platform.errors import UserError

WEIGHTS, CONFIG, STATE = "model.safetensors", "config.json", "state.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointState:
    """When a checkpoint was taken and how good it was."""

    step: int
    """Optimiser steps done."""

    score: float
    """t2v R@1 in percent on the split of train.select_on, the mean of train.select_mean_of."""

    run_id: str = ""
    """The MLflow run of the training."""


def write_state(folder: Path, state: CheckpointState) -> None:
    """Write a checkpoint's state."""
    (folder / STATE).write_text(json.dumps(asdict(state)), encoding="utf-8")


def read_state(folder: Path) -> CheckpointState:
    """Read a checkpoint's state. Raises UserError if the file is damaged or of another kind."""
    try:
        return CheckpointState(**json.loads((folder / STATE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{folder / STATE} cannot be read as a checkpoint's state: {error}") from (
            error
        )


def is_checkpoint(path: Path) -> bool:
    """Whether this is the folder of a checkpoint of ours."""
    return all((path / name).is_file() for name in (WEIGHTS, CONFIG, STATE))


def find_checkpoint(name: str, output_dir: Path) -> Path:
    """The checkpoint that a user means: absolute, a folder of ours or a file of another kind.

    `name` is a checkpoint's folder, a file, a run's folder or the name of a run in output_dir; of a
    run it is the best checkpoint. Raises UserError if there is none.
    """
    for path in (Path(name).expanduser().absolute(), output_dir.absolute() / "runs" / name):
        if path.is_file() or is_checkpoint(path):
            return path
        kept = [folder for folder in (path / "checkpoints").glob("step_*") if is_checkpoint(folder)]
        if kept:
            states = {folder: read_state(folder) for folder in kept}
            return max(kept, key=lambda folder: (states[folder].score, -states[folder].step))
    raise UserError(
        f"checkpoint {name!r} is neither a file, nor a folder with {WEIGHTS}, {CONFIG} and "
        f"{STATE}, nor a run with checkpoints in {output_dir / 'runs'}; give one of these to "
        "--checkpoint"
    )
