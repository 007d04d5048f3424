"""Where a training reads and writes, seen from every node before anything waits."""

from pathlib import Path

from xpool_platform.checkpoint_files import checkpoints_of
from xpool_platform.config import ExperimentConfig
from xpool_platform.errors import UserError
from xpool_platform.storage_check import check_seen, check_storage, unshared
from xpool_platform.train.run_folder import RunFolder, run_folder


def checked_folder(config: ExperimentConfig, run_dir: Path) -> RunFolder | None:
    """How workers write to run_dir where they do not see it; None: they do.

    Raises UserError if a node does not reach what it has to.
    """
    places = {"train.checkpoints_dir": ""}
    if config.train.checkpoints_dir:
        places["train.checkpoints_dir"] = checkpoints_of(config, run_dir)
    if config.data.cache == "frames":
        places["data.frames_dir"] = config.data.frames_dir
    check_storage({field: place for field, place in places.items() if place})
    check_seen(config)
    complaint = unshared("output_dir", str(run_dir))
    if not complaint:
        return None
    in_output_dir = [field for field, place in places.items() if not place]
    if config.data.source == "shapes":
        raise UserError(
            f"{complaint}; set --output-dir to a place that all nodes share, since the experiment "
            "writes its videos there"
        )
    if in_output_dir:
        others = " and ".join(f"--{field.replace('_', '-')}" for field in in_output_dir)
        raise UserError(
            f"{complaint}; set --output-dir to a place that all nodes share, or {others} to one, "
            "such as an object store"
        )
    return run_folder(run_dir)
