"""What the files of a segment are called and hold.

- `terms.arrow`: what `xpool.scoring` keeps of each video, and its mean embedding, in float16
- `videos.arrow`: what a video is called, where its file is, when its frames are shown, its captions
- `captions.arrow`: the embedding of each caption, in float16, and the row of its video
- `thumbnails.arrow`: the sampled frames as small JPEG files
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float
from torch import Tensor

from xpool.scorer import Terms

TERMS, VIDEOS, CAPTIONS, THUMBNAILS = (
    "terms.arrow",
    "videos.arrow",
    "captions.arrow",
    "thumbnails.arrow",
)
SHAPES = b"shapes"
MEAN = "mean_embed"

VIDEO_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("uri", pa.string()),  # empty: there is no file
        ("identity", pa.string()),  # changes with the file, the segment, the captions
        ("num_bytes", pa.int64()),
        ("modified_ns", pa.int64()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("duration_s", pa.float64()),
        ("times_s", pa.list_(pa.float64())),
        ("captions", pa.list_(pa.string())),
    ]
)
THUMBNAIL_SCHEMA = pa.schema([("jpegs", pa.list_(pa.binary()))])


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedVideos:
    """Some videos as an index keeps them, one after the other."""

    rows: list[dict[str, Any]]
    """The columns of VIDEO_SCHEMA."""

    terms: Terms
    """Of float16."""

    mean_embeds: Float[Tensor, "num_videos embed_dim"]
    """The mean of the L2-normalised frames, normalised, in float16."""

    caption_embeds: Float[np.ndarray, "num_captions embed_dim"]
    """In the order of the rows and of the captions in each, in float16."""

    thumbnails: list[list[bytes]]
    """JPEG files of the sampled frames of each; of no frame where none are kept."""
