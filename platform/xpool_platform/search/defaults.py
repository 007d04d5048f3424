"""What an index is made of unless the user says otherwise; light to import."""

import os
from dataclasses import replace
from pathlib import Path

from xpool_platform.checkpoint_files import (
    best_checkpoint,
    find_checkpoint,
    is_checkpoint,
    read_checkpoint_config,
)
from xpool_platform.config import ExperimentConfig
from xpool_platform.config_io import as_kind
from xpool_platform.data_config import DataConfig
from xpool_platform.errors import UserError
from xpool_platform.experiments import experiment
from xpool_platform.interrupted_run import RESULT
from xpool_platform.search.config import IndexConfig


def index_defaults(
    checkpoint: str, output_dir: Path, *, name: str | None = None, has_videos: bool = False
) -> IndexConfig:
    """The data of the named experiment, else those of the checkpoint's training; with `has_videos`
    the plain settings of a folder.

    Raises UserError for an unknown experiment or checkpoint.
    """
    config = ExperimentConfig()
    if checkpoint:
        path = find_checkpoint(checkpoint, output_dir)
        config = read_checkpoint_config(path) if is_checkpoint(path) else config
    if name is not None:
        config = replace(config, name=name, data=experiment(name).data)
    elif has_videos:
        config = replace(config, name="", data=DataConfig(source="folder"))
    there = config.output_dir
    if "XPOOL_OUTPUT_DIR" in os.environ or not os.access(there, os.W_OK):
        there = ""
    # what cannot be decoded is listed and left out, however much it is
    data = replace(config.data, max_bad_fraction=1.0)
    config = replace(config, run_name="", init_from="", output_dir=there, data=data)
    return as_kind(config, IndexConfig)


def last_run(output_dir: Path) -> str:
    """The name of the run that was finished last. Raises UserError if there is none."""
    results = sorted(
        output_dir.glob(f"runs/*/{RESULT}"), key=lambda path: path.stat().st_mtime, reverse=True
    )
    for result in results:
        if best_checkpoint(str(result.parent / "checkpoints")):
            return result.parent.name
    raise UserError(
        f"there is no trained model in {output_dir / 'runs'} yet; `make train` makes one, or name "
        "one: --checkpoint RUN"
    )
