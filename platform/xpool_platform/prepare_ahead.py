"""Filling the frame store ahead of the runs that will need it."""

import os
from dataclasses import dataclass
from pathlib import Path

from xpool_platform.cluster_check import check_decoding
from xpool_platform.config import ExperimentConfig
from xpool_platform.console import Console
from xpool_platform.data.summary import split_summary
from xpool_platform.errors import UserError, raised_as_user_error
from xpool_platform.preflight import prepare_output_dir, with_absolute_paths
from xpool_platform.prepare import (
    ERRORS,
    decode_videos,
    frames_dir,
    made_manifest,
    own_manifest,
)
from xpool_platform.runtime import ray_session
from xpool_platform.storage_check import check_seen, check_storage
from xpool_platform.tracking.tracker import NullTracker


@dataclass(frozen=True, slots=True)
class Preparation:
    """What was done."""

    num_decoded: int
    num_present: int
    """Videos that were in the store already."""

    num_bad: int
    errors_path: Path
    """Where the bad ones are listed, if there are any."""


def prepare_ahead(config: ExperimentConfig, console: Console) -> Preparation:
    """Decode all videos of an experiment, all splits, that are not in its frame store.

    Raises UserError as a training would, so that a training finds nothing left to complain of.
    """
    if config.data.cache == "none":
        raise UserError(
            "data.cache none keeps no frames, so there is nothing to prepare; leave it out here"
        )
    config = with_absolute_paths(config)
    output_dir = prepare_output_dir(config)
    os.chdir(output_dir)  # as a training does: raylets replace each other's copy of a job's folder
    manifest = own_manifest(config)
    if manifest is not None:
        console.summary(split_summary(manifest))
    folder = output_dir / "prepared" / (config.name or "unnamed")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ERRORS).unlink(missing_ok=True)
    with ray_session(), raised_as_user_error():
        check_decoding(config)
        check_seen(config)
        check_storage({"data.frames_dir": frames_dir(config)})
        if manifest is None:
            manifest = made_manifest(config, output_dir, console)
        decoded = decode_videos(
            manifest, config, run_dir=folder, tracker=NullTracker(), console=console
        )
    return Preparation(
        num_decoded=decoded.num_decoded,
        num_present=len(decoded.videos) - decoded.num_decoded,
        num_bad=len(decoded.bad),
        errors_path=folder / ERRORS,
    )
