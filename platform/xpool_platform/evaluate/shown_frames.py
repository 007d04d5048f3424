"""The frames of a split's videos for the figures, each video read once."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pyarrow as pa
from jaxtyping import UInt8

from xpool.sampling import uniform_frame_indices
from xpool_platform.data.kept_frames import load_frames


def frames_reader(
    videos: pa.Table, num_frames: int
) -> Callable[[int], UInt8[np.ndarray, "num_frames height width 3"]]:
    """A function from a row of `videos` to the frames that the model sees of that video."""

    @cache
    def read(row: int) -> np.ndarray:
        available = videos["num_frames"][row].as_py()
        uri = videos["frames_uri"][row].as_py()
        return load_frames(uri, uniform_frame_indices(available, num_frames))

    return read
