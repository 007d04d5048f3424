"""From an experiment's data to decoded videos, with progress on the console."""

from pathlib import Path

import pyarrow as pa

from xpool_platform.config import ExperimentConfig
from xpool_platform.console import Console
from xpool_platform.data.decode import DecodedManifest, decode_manifest
from xpool_platform.data.manifest import folder_manifest, hold_out_validation
from xpool_platform.data.shapes import make_shapes
from xpool_platform.errors import UserError


def check_data(config: ExperimentConfig) -> None:
    """Raise UserError that lists what is wrong with the user's own data, before Ray starts."""
    if config.data.source == "folder":
        folder_manifest(_folder(config))


def prepare_videos(
    config: ExperimentConfig, output_dir: Path, console: Console, splits: set[str] | None = None
) -> DecodedManifest:
    """All videos of these splits, or of all, in the frame cache.

    Raises UserError if too many of them cannot be decoded, or one that a result would be about.
    """
    manifest = _manifest(config, output_dir, console)
    manifest = hold_out_validation(manifest, config.data, config.train.seed)
    if splits is not None:
        manifest = manifest.filter(pa.array([s in splits for s in manifest["split"].to_pylist()]))
    with console.stage("decoding") as stage:
        decoded = decode_manifest(manifest, config.data, output_dir / "frames", stage)
    for bad in decoded.bad:
        console.line(f"left out {bad.video_id}: {bad.kind}, {bad.reason}")
    return decoded


def _manifest(config: ExperimentConfig, output_dir: Path, console: Console) -> pa.Table:
    if config.data.source == "folder":
        return folder_manifest(_folder(config))
    with console.stage("corpus") as stage:
        return folder_manifest(make_shapes(config.data.shapes, output_dir / "corpora", stage))


def _folder(config: ExperimentConfig) -> Path:
    if not config.data.root:
        raise UserError(
            "data.root is empty; give the folder of your videos and captions.csv: --data.root PATH"
        )
    return Path(config.data.root)
