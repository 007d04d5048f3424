"""From an experiment's data to decoded videos, with progress on the console."""

from collections.abc import Collection, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from xpool_platform.config import ExperimentConfig
from xpool_platform.console import Console
from xpool_platform.data.benchmark_manifest import benchmark_manifest
from xpool_platform.data.decode import DecodedManifest, decode_manifest
from xpool_platform.data.manifest import SPLITS, folder_manifest, hold_out_validation
from xpool_platform.data.shapes import make_shapes
from xpool_platform.errors import UserError

MAX_LISTED = 20


def own_manifest(config: ExperimentConfig, splits: Collection[str] = SPLITS) -> pa.Table | None:
    """All videos with their splits, where the user has them; None where the job makes its own.

    Of a benchmark only the videos of `splits` need to be there, and the captions of all. Raises
    UserError that lists what is wrong with the data; needs no Ray.
    """
    match config.data.source:
        case "shapes":
            return None
        case "folder":
            manifest = folder_manifest(_root(config))
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
    manifest: pa.Table, config: ExperimentConfig, output_dir: Path, console: Console
) -> DecodedManifest:
    """The videos of a manifest, in the frame cache; those that cannot be decoded are named.

    Raises UserError if there are too many of them, or one is of the split that is reported.
    """
    with console.stage("decoding") as stage:
        decoded = decode_manifest(manifest, config.data, output_dir / "frames", stage)
    for bad in decoded.bad:
        console.line(f"left out {bad.video_id}: {bad.kind}, {bad.reason}")
    missing = missing_videos(manifest, decoded, config.eval.split)
    if missing and not config.eval.allow_missing:
        raise UserError(
            f"{len(missing)} videos of the split {config.eval.split!r} cannot be decoded "
            f"({', '.join(missing[:MAX_LISTED])}), and a result without them would be about "
            "another test set; replace them, or set --eval.allow-missing True to report how many "
            "are missing"
        )
    return decoded


def missing_videos(manifest: pa.Table, decoded: DecodedManifest, split: str) -> list[str]:
    """The videos of a split that could not be decoded."""
    bad = {video.video_id for video in decoded.bad}
    in_split = manifest.filter(pc.equal(manifest["split"], split))["video_id"].to_pylist()
    return [video_id for video_id in in_split if video_id in bad]


def _root(config: ExperimentConfig) -> Path:
    if not config.data.root:
        what = "your videos and captions.csv" if config.data.source == "folder" else "the videos"
        raise UserError(f"data.root is empty; give the folder of {what}: --data.root PATH")
    return Path(config.data.root)
