"""From an experiment's data to decoded videos, with progress on the console."""

from collections.abc import Collection, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xpool_platform.config import ExperimentConfig
from xpool_platform.console import Console
from xpool_platform.data.annotation_copies import annotations_here
from xpool_platform.data.benchmark_manifest import benchmark_manifest
from xpool_platform.data.decode import (
    BadVideo,
    DecodedManifest,
    decode_manifest,
    errors_table,
)
from xpool_platform.data.folder_manifest import folder_manifest, object_manifest
from xpool_platform.data.manifest import SPLITS, hold_out_validation
from xpool_platform.data.shapes import make_shapes
from xpool_platform.data.store_catalogue import open_store
from xpool_platform.data.summary import split_summary
from xpool_platform.data.video import FrameSettings
from xpool_platform.errors import UserError
from xpool_platform.locations import is_uri
from xpool_platform.tracking.tracker import Tracker

MAX_LISTED = 20
ERRORS = "errors.parquet"
"""The videos that cannot be decoded, with a class and a reason each."""


def own_manifest(config: ExperimentConfig, splits: Collection[str] = SPLITS) -> pa.Table | None:
    """All videos with their splits, where the user has them; None where the job makes its own.

    Of a benchmark only the videos of `splits` need to be there, and the captions of all. Raises
    UserError that lists what is wrong with the data; needs no Ray.
    """
    match config.data.source:
        case "shapes":
            return None
        case "folder":
            manifest = _folder_manifest(_root(config), config.data.annotations)
        case _:
            _root(config)
            manifest = benchmark_manifest(config.data, splits)
    return hold_out_validation(manifest, config.data, config.train.seed)


def made_manifest(config: ExperimentConfig, output_dir: Path, console: Console) -> pa.Table:
    """All videos with their splits, of a corpus that is made now unless it is there."""
    with console.stage("corpus") as stage:
        root = make_shapes(config.data.shapes, output_dir / "corpora", stage)
    return hold_out_validation(folder_manifest(root), config.data, config.train.seed)


def check_splits(manifest: pa.Table, wanted: Mapping[str, str]) -> None:
    """Raise UserError if a split is not there; wanted: by the field that asks for it."""
    there = set(manifest["split"].to_pylist())
    for field, split in wanted.items():
        if split not in there:
            raise UserError(
                f"{field} needs videos of the split {split!r} and the data has only "
                f"{', '.join(sorted(there))}; name it in the data"
                + (", or set --data.val-fraction 0.1" if split == "val" else "")
                + (f", or set --{field.replace('_', '-')} train" if "." in field else "")
            )


def decode_videos(
    manifest: pa.Table,
    config: ExperimentConfig,
    *,
    run_dir: Path,
    tracker: Tracker,
    console: Console,
) -> DecodedManifest:
    """The videos of a manifest, all decoded; a summary of them on the console.

    Those that cannot be decoded are named, and kept with their reasons as errors.parquet in run_dir
    and with the run. Raises UserError if there are too many of them, or one is of the split that is
    reported.
    """
    store = ""
    if config.data.cache == "frames":
        store = open_store(frames_dir(config), FrameSettings.of(config.data), config.name)
    with console.stage("decoding") as stage:
        decoded = decode_manifest(manifest, config.data, store, stage)
    if decoded.bad:
        path = run_dir / ERRORS
        pq.write_table(errors_table(decoded.bad), path)
        tracker.log_artifact(path)
        lines = bad_lines(decoded.bad)
        if len(decoded.bad) > config.data.max_bad_fraction * len(manifest):
            raise UserError(
                f"{len(decoded.bad)} of {len(manifest)} videos cannot be decoded, more than the "
                f"share data.max_bad_fraction = {config.data.max_bad_fraction:g} allows:\n{lines}\n"
                f"{path} has them all. Replace them, take them out, or raise "
                "--data.max-bad-fraction"
            )
        console.line(f"left out {len(decoded.bad)} of {len(manifest)} videos:\n{lines}")
    missing = missing_videos(manifest, decoded, config.eval.split)
    if missing and not config.eval.allow_missing:
        raise UserError(
            f"{len(missing)} videos of the split {config.eval.split!r} cannot be decoded "
            f"({', '.join(missing[:MAX_LISTED])}), and a result without them would be about "
            "another test set; replace them, or set --eval.allow-missing True to report how many "
            "are missing"
        )
    console.summary(split_summary(decoded.videos))
    return decoded


def frames_dir(config: ExperimentConfig) -> str:
    """Where the frame stores are."""
    return config.data.frames_dir or str(Path(config.output_dir, "frames"))


def missing_videos(manifest: pa.Table, decoded: DecodedManifest, split: str) -> list[str]:
    """The videos of a split that could not be decoded."""
    bad = {video.video_id for video in decoded.bad}
    in_split = manifest.filter(pc.equal(manifest["split"], split))["video_id"].to_pylist()
    return [video_id for video_id in in_split if video_id in bad]


def bad_lines(bad: list[BadVideo]) -> str:
    """The first MAX_LISTED of them with their reasons."""
    shown = [f"  {video.video_id}: {video.kind}, {video.reason}" for video in bad[:MAX_LISTED]]
    more = [f"  and {len(bad) - MAX_LISTED} more"] if len(bad) > MAX_LISTED else []
    return "\n".join([*shown, *more])


def _folder_manifest(root: str, annotations: str) -> pa.Table:
    if is_uri(root):
        return object_manifest(root, annotations)
    if not annotations:
        return folder_manifest(Path(root))
    with annotations_here(annotations) as here:
        return folder_manifest(Path(root), here)


def _root(config: ExperimentConfig) -> str:
    if not config.data.root:
        whose = "your" if config.data.source == "folder" else "the"
        raise UserError(f"data.root is empty; give the folder of {whose} videos: --data.root PATH")
    return config.data.root
