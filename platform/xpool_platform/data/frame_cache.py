"""Decoded frames on disk, a file for each video: complete or not there, safe with two writers."""

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from xpool_platform.data.video import DecodedVideo, FrameSettings


def frames_path(
    cache_dir: Path, settings: FrameSettings, uri: str, start_s: float | None, end_s: float | None
) -> Path:
    """Where a video's frames belong. The name changes when the video file or the settings do."""
    status = os.stat(uri)
    identity = f"{uri}\0{status.st_size}\0{status.st_mtime_ns}\0{start_s}\0{end_s}"
    name = hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()
    return cache_dir / settings.fingerprint() / name[:2] / f"{name}.safetensors"


def write_frames(path: Path, video: DecodedVideo) -> None:
    """Write a video's frames under its name, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
        temporary = Path(file.name)
    try:
        save_file({"frames": video.frames, "times_s": video.times_s}, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def num_frames(path: Path) -> int:
    """Frames of a video in the cache; 0 where it is not there or not readable."""
    try:
        with safe_open(path, framework="np") as file:
            return int(file.get_slice("frames").get_shape()[0])
    except (FileNotFoundError, SafetensorError):
        return 0


def read_frames(
    path: Path, indices: Sequence[int]
) -> UInt8[np.ndarray, "num_frames height width 3"]:
    """The frames of these indices, read alone."""
    with safe_open(path, framework="np") as file:
        frames = file.get_slice("frames")
        rows = {index: frames[index : index + 1] for index in set(indices)}
    return np.concatenate([rows[index] for index in indices])
