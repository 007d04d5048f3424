"""The files of a sweep, by which it goes on after any end."""

import json
from dataclasses import asdict, fields
from pathlib import Path

from xpool_platform.checkpoint_files import CONFIG
from xpool_platform.config import ExperimentConfig
from xpool_platform.config_io import as_kind, read_config, write_config
from xpool_platform.errors import UserError
from xpool_platform.interrupted_run import RECORD
from xpool_platform.sweep_config import SweepConfig
from xpool_platform.tune.space import Space, parse_space, read_space, write_space

SWEEP, SPACE, TRIALS, RESULT = "sweep.json", "space.yaml", "trials", "sweep_result.json"
FINISHED = "finished"
"""An empty file that is written last of all."""

FREE = "max_concurrent", "max_failed_trials", "register", "resume"
"""Fields of a sweep that may change when it goes on."""


def sweep_dir(name: str, output_dir: Path) -> Path:
    """Where a sweep's files are."""
    return output_dir / "sweeps" / name


def write_sweep(config: SweepConfig, space: Space, folder: Path) -> None:
    """Keep what a sweep is."""
    write_config(as_kind(config, ExperimentConfig), folder / CONFIG)
    own = {field.name for field in fields(SweepConfig)} - {f.name for f in fields(ExperimentConfig)}
    kept = {name: value for name, value in asdict(config).items() if name in own}
    (folder / SWEEP).write_text(json.dumps(kept, indent=1), encoding="utf-8")
    write_space(space, folder / SPACE)


def read_sweep(name: str, output_dir: Path) -> tuple[SweepConfig, dict[str, str]]:
    """What an interrupted sweep is: its config, and the texts of its space.

    Raises UserError if there is none, or it has ended.
    """
    folder = sweep_dir(name, output_dir)
    if not all((folder / file).is_file() for file in (CONFIG, SWEEP, SPACE, RECORD)):
        raise UserError(
            f"resume: there is no sweep {name!r} in {output_dir / 'sweeps'}; give the name of one "
            "that was interrupted, and --output-dir if it lies elsewhere"
        )
    if (folder / FINISHED).is_file():
        raise UserError(
            f"resume: sweep {name!r} is finished, its result is in {folder / RESULT}; begin "
            "another one under another --run-name"
        )
    try:
        own = json.loads((folder / SWEEP).read_text(encoding="utf-8"))
        config = as_kind(read_config(folder / CONFIG), SweepConfig, **own)
        texts = read_space(folder / SPACE)
        parse_space(texts, config)
    except (ValueError, TypeError) as error:
        raise UserError(f"sweep {name!r} cannot go on: {error}") from error
    return config, texts


def check_same_sweep(before: SweepConfig, wanted: SweepConfig) -> None:
    """Raise UserError if a field was changed that decides what the trials are."""
    for field in fields(SweepConfig):
        had, wants = getattr(before, field.name), getattr(wanted, field.name)
        if had != wants and field.name not in FREE:
            raise UserError(
                f"resume: the sweep began with another {field.name}; leave what changes it out, or "
                "begin another sweep"
            )
