"""A video's kept frames by their URI: read from the store or, with data.cache none, decoded again.

A video that is decoded again has a URI of its own kind, which holds all that its decoding needs.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import UInt8

from xpool_platform.data.decode_guard import process_guard
from xpool_platform.data.frame_store import read_frames
from xpool_platform.data.video import FrameSettings, VideoError
from xpool_platform.errors import UserError
from xpool_platform.locations import local_file

DECODE = "decode:"


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoding:
    """A segment of a video, and how it is decoded."""

    path: str
    start_s: float | None
    end_s: float | None
    settings: FrameSettings
    deadline_s: float
    memory_bytes: int

    def uri(self) -> str:
        """What `load_frames` takes instead of the URI of stored frames."""
        return DECODE + json.dumps(asdict(self))

    @classmethod
    def of_uri(cls, uri: str) -> "Decoding":
        fields = json.loads(uri.removeprefix(DECODE))
        return cls(**{**fields, "settings": FrameSettings(**fields["settings"])})


def load_frames(
    frames_uri: str, indices: Sequence[int]
) -> UInt8[np.ndarray, "num_frames height width 3"]:
    """The kept frames of these indices.

    Raises UserError if the stored file is damaged or gone, or the video no longer gives them.
    """
    if not frames_uri.startswith(DECODE):
        return read_frames(frames_uri, indices)
    decoding = Decoding.of_uri(frames_uri)
    guard = process_guard(decoding.deadline_s, decoding.memory_bytes)
    try:
        with local_file(decoding.path) as path:
            video = guard.decode(path, decoding.settings, decoding.start_s, decoding.end_s)
    except VideoError as error:
        raise UserError(
            f"{decoding.path} was decoded before and now cannot be ({error}); put it back, or run "
            "again to leave it out"
        ) from error
    if max(indices) >= len(video.frames):
        raise UserError(
            f"{decoding.path} has changed while it was in use: it gives {len(video.frames)} frames "
            f"and gave at least {max(indices) + 1}; run again"
        )
    return video.frames[list(indices)]
