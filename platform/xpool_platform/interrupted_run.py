"""A run that was interrupted: where it lies, with what config it goes on, where it is recorded."""

import json
from dataclasses import replace
from pathlib import Path

from xpool_platform.checkpoint_files import CONFIG
from xpool_platform.config import ExperimentConfig
from xpool_platform.config_io import flatten, read_config
from xpool_platform.errors import UserError

RECORD = "run.json"
"""Where a run is recorded: the tracking URI and the run's id."""

RESULT = "metrics.json"
"""What only a finished run has."""

LEASE, HOLDER = "lease", "lease.json"
"""Whose run it is: a lock, and what is said of its holder."""

FREE = (
    *("train.num_workers", "train.cpus_per_worker", "train.use_gpu", "train.min_workers"),
    *("train.max_failures", "train.step_timeout_s", "train.checkpoint_steps", "train.keep_last"),
    *("train.micro_batch_size", "train.compile", "train.checkpoint_activations", "train.tf32"),
    *("train.keep_best", "data.decode_cpus", "data.decode_deadline_s", "data.max_bad_fraction"),
    *("data.frames_dir", "data.cache", "data.cache_embeds", "data.root", "data.annotations"),
    *("tracking.log_checkpoints", "output_dir", "eval.num_figures", "train.eval_workers"),
    "train.gpus_per_worker",
)
"""Fields that may change when a run goes on: none of them changes what it learns."""


def interrupted_run_dir(name: str, output_dir: Path) -> Path:
    """The folder of a run that can go on. Raises UserError if there is none."""
    folder = output_dir / "runs" / name
    if not (folder / CONFIG).is_file() or not (folder / RECORD).is_file():
        raise UserError(
            f"resume: there is no run {name!r} in {output_dir / 'runs'}; give the name of one that "
            "was interrupted, and --output-dir if it lies elsewhere"
        )
    if (folder / RESULT).is_file():
        raise UserError(
            f"resume: run {name!r} is finished, its results are in {folder / RESULT}; evaluate it "
            f"by python jobs/evaluate.py --checkpoint {name}, or go on from its weights in a new "
            f"run by --init-from {name}"
        )
    return folder


def is_unused(run_dir: Path) -> bool:
    """Whether nothing is recorded here, not even by a job that was killed as it began."""
    return not run_dir.exists() or {path.name for path in run_dir.iterdir()} <= {LEASE, HOLDER}


def interrupted_config(name: str, output_dir: Path) -> ExperimentConfig:
    """The config of a run that can go on. Raises UserError if there is none."""
    folder = interrupted_run_dir(name, output_dir)
    try:
        return replace(read_config(folder / CONFIG), output_dir=str(output_dir))
    except ValueError as error:
        raise UserError(str(error)) from error


def check_resumable(before: ExperimentConfig, wanted: ExperimentConfig) -> None:
    """Raise UserError if a field was changed that decides what the run learns."""
    had, wants = flatten(before), flatten(wanted)
    changed = [key for key in had if had[key] != wants[key] and key not in FREE]
    if changed:
        key = changed[0]
        raise UserError(
            f"resume: the run began with {key} {had[key]!r} and cannot go on with {wants[key]!r}; "
            f"leave --{key.replace('_', '-')} out, or train a new run with --init-from"
        )


def recorded_run(run_dir: Path) -> str:
    """The id under which a run is recorded."""
    run_id: str = json.loads((run_dir / RECORD).read_text(encoding="utf-8"))["run_id"]
    return run_id
