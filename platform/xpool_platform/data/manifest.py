"""One Arrow table of what there is to learn from: a row for each video or segment of one."""

import numpy as np
import pyarrow as pa

from xpool_platform.data_config import DataConfig

SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("uri", pa.string()),
        ("split", pa.string()),
        ("captions", pa.list_(pa.string())),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
    ]
)
SPLITS = ("train", "val", "test")


def hold_out_validation(manifest: pa.Table, config: DataConfig, seed: int) -> pa.Table:
    """Move data.val_fraction of the training videos to `val`, if the data names no val split.

    The segments of a video stay together.
    """
    splits = np.array(manifest["split"].to_pylist(), dtype=object)
    train = np.flatnonzero(splits == "train")
    uris, ids = manifest["uri"].to_pylist(), manifest["video_id"].to_pylist()
    segments: dict[str, list[int]] = {}
    for row in train.tolist():
        segments.setdefault(uris[row] or ids[row], []).append(row)
    num_val = round(config.val_fraction * len(segments))
    if num_val == 0 or (splits == "val").any():
        return manifest
    videos = list(segments.values())
    for video in np.random.default_rng(seed).permutation(len(videos))[:num_val]:
        splits[videos[video]] = "val"
    column = manifest.schema.get_field_index("split")
    return manifest.set_column(column, "split", pa.array(splits.tolist(), pa.string()))
