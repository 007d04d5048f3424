"""Where checkpoints lie and what is said beside their weights; light to import.

A checkpoint is a folder of files and, written last, a manifest with the size and the hash of each:
without its manifest it is not there.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa

from xpool_platform.config import ExperimentConfig
from xpool_platform.config_io import parse_config, read_config
from xpool_platform.credentials import refuse_credentials
from xpool_platform.errors import UserError
from xpool_platform.locations import (
    absolute,
    files_below,
    filesystem_of,
    is_file,
    is_uri,
    read_whole,
    readable,
    remove_file,
    write_whole,
)

WEIGHTS, CONFIG, STATE = "model.safetensors", "config.json", "state.json"
TRAINING = "training.safetensors"
"""What a training needs besides the weights to go on."""

MANIFEST = "manifest.json"

STEP = "step_"
"""How the name of a checkpoint's folder begins."""


class DamagedCheckpointError(UserError):
    """A file of a checkpoint is gone, cut short or changed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointState:
    """When a checkpoint was taken and how good it was."""

    step: int
    """Optimiser steps done."""

    score: float | None = None
    """t2v R@1 in percent on the split of train.select_on, the mean of train.select_mean_of.

    None if it was taken between two evaluations, or one of it is due.
    """

    run_id: str = ""
    """The MLflow run of the training."""

    recalls: list[float] = field(default_factory=list)
    """t2v R@1 of all evaluations so far, in percent."""

    evaluations: list[dict[str, float]] = field(default_factory=list)
    """All metrics of these evaluations, as `val/t2v/R1`, each with its `step`."""

    evaluation_due: bool = False
    """Whether it was evaluated beside the training and the score was not there yet."""


def write_files(location: str, files: Mapping[str, bytes]) -> None:
    """Write a checkpoint's files and then its manifest."""
    manifest = {}
    for name, content in files.items():
        write_whole(f"{location}/{name}", content)
        manifest[name] = _entry(content)
    write_whole(f"{location}/{MANIFEST}", json.dumps(manifest, indent=1).encode())


def write_state(location: str, state: CheckpointState) -> None:
    """Give a whole checkpoint another state; while this is done, it is not there."""
    manifest = json.loads(read_whole(f"{location}/{MANIFEST}").to_pybytes())
    content = state_bytes(state)
    manifest[STATE] = _entry(content)
    remove_file(f"{location}/{MANIFEST}")
    write_whole(f"{location}/{STATE}", content)
    write_whole(f"{location}/{MANIFEST}", json.dumps(manifest, indent=1).encode())


def read_file(location: str, name: str) -> pa.Buffer:
    """A file of a checkpoint, as it was written. Raises DamagedCheckpointError if it is not."""
    try:
        said = json.loads(read_whole(f"{location}/{MANIFEST}").to_pybytes())[name]
        content = read_whole(f"{location}/{name}")
        if content.size != said["bytes"]:
            raise DamagedCheckpointError(
                f"{location}/{name} has {content.size} of its {said['bytes']} bytes"
            )
        if digest_of(content) != said["blake2b"]:
            raise DamagedCheckpointError(
                f"{location}/{name} is not what was written: its hash differs"
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedCheckpointError(
            f"{location} is no whole checkpoint: {name} or {MANIFEST} cannot be read ({error})"
        ) from error
    return content


def state_bytes(state: CheckpointState) -> bytes:
    """A state as a file."""
    return json.dumps(asdict(state)).encode()


def read_state(location: str) -> CheckpointState:
    """A checkpoint's state. Raises DamagedCheckpointError."""
    content = read_file(location, STATE).to_pybytes()
    try:
        return CheckpointState(**json.loads(content))
    except (ValueError, TypeError) as error:
        raise DamagedCheckpointError(f"{location}/{STATE} holds no state: {error}") from error


def read_checkpoint_config(location: str) -> ExperimentConfig:
    """With what a checkpoint was trained. Raises DamagedCheckpointError, or UserError."""
    try:
        return parse_config(read_file(location, CONFIG).to_pybytes(), f"{location}/{CONFIG}")
    except ValueError as error:
        raise UserError(str(error)) from error


def checkpoints_below(location: str) -> dict[int, str]:
    """The checkpoints of a run by their steps, rising; only those that have their manifest."""
    _, below = filesystem_of(location)
    manifests = [Path(info.path) for info in files_below(location) if info.base_name == MANIFEST]
    folders = [path.parent.name for path in manifests if path.parents[1] == Path(below)]
    steps = sorted(int(name.removeprefix(STEP)) for name in folders if _is_step(name))
    return {step: f"{location}/{checkpoint_name(step)}" for step in steps}


def checkpoint_name(step: int) -> str:
    """The folder of the checkpoint taken after a step."""
    return f"{STEP}{step:07d}"


def check_whole(location: str) -> CheckpointState:
    """Read all of a checkpoint and compare it with its manifest. Raises DamagedCheckpointError."""
    for name in (WEIGHTS, CONFIG, TRAINING):
        read_file(location, name)
    return read_state(location)


def is_checkpoint(location: str) -> bool:
    """Whether this is the folder of a checkpoint of ours."""
    return all(is_file(f"{location}/{name}") for name in (WEIGHTS, CONFIG, STATE, MANIFEST))


def checkpoints_of(config: ExperimentConfig, run_dir: Path) -> str:
    """Where the checkpoints of a run are."""
    base = config.train.checkpoints_dir
    return f"{base.rstrip('/')}/{run_dir.name}" if base else str(run_dir / "checkpoints")


def best_first(states: Mapping[int, CheckpointState]) -> list[int]:
    """The steps of those that have a score: the best first, of equal ones the earliest."""
    scores = {step: state.score for step, state in states.items() if state.score is not None}
    return sorted(scores, key=lambda step: (-scores[step], step))


def best_checkpoint(location: str) -> str:
    """The best checkpoint of a run, the last if none has a score; empty if there is none."""
    kept = checkpoints_below(location)
    best = best_first({step: read_state(folder) for step, folder in kept.items()})
    return kept[best[0] if best else max(kept)] if kept else ""


def find_checkpoint(name: str, output_dir: Path, *, option: str = "--checkpoint") -> str:
    """The checkpoint that a user means: a folder of ours or a file of another kind, as an absolute
    path or a URI.

    `name` is a checkpoint's folder, a file, a run's folder, the folder of its checkpoints or the
    name of a run in output_dir; of a run it is the best checkpoint. Raises UserError if there is
    none.
    """
    refuse_credentials({option.removeprefix("--"): name})
    here, of_run = absolute(name), str(output_dir.absolute() / "runs" / name)
    with readable(here):
        for location in (here,) if is_uri(here) else (here, of_run):
            if is_checkpoint(location) or is_file(location):
                return location
            best = best_checkpoint(_checkpoints_of_run(location))
            if best:
                return best
    files = f"{WEIGHTS}, {CONFIG}, {STATE} and {MANIFEST}"
    raise UserError(
        f"checkpoint {name!r} is neither a file, nor a folder with {files}, nor a run with "
        f"checkpoints in {output_dir / 'runs'}; give one of these to {option}"
    )


def _checkpoints_of_run(run_dir: str) -> str:
    if is_uri(run_dir):
        return run_dir
    config = Path(run_dir, CONFIG)
    if not config.is_file():
        return f"{run_dir}/checkpoints"
    try:
        return checkpoints_of(read_config(config), Path(run_dir))
    except ValueError as error:
        raise UserError(str(error)) from error


def _is_step(name: str) -> bool:
    return name.startswith(STEP) and name.removeprefix(STEP).isdigit()


def _entry(content: bytes) -> dict[str, int | str]:
    return {"bytes": len(content), "blake2b": digest_of(content)}


def digest_of(content: bytes | pa.Buffer) -> str:
    """The hash by which a file is known."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()
