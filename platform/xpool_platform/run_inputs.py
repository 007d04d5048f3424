"""The data of a run as its page shows them: each split with a digest and its counts."""

import hashlib
import json
from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from xpool_platform.config import ExperimentConfig
from xpool_platform.data.summary import split_summary
from xpool_platform.tracking.tracker import DatasetRecord

DECIDING = ("video_id", "captions", "start_s", "end_s", "num_frames", "duration_s")
"""Columns of a decoded manifest that decide what is learnt from a split; paths do not."""

SOURCE = ("source", "root", "annotations", "msrvtt_train", "val_fraction")
"""Fields of DataConfig that say where the data come from."""


def dataset_records(
    videos: pa.Table, config: ExperimentConfig, splits: Collection[str]
) -> list[DatasetRecord]:
    """A record for each of the splits that there is in a decoded manifest."""
    records = []
    for summary in split_summary(videos):
        if summary.split not in splits:
            continue
        of_split = videos.filter(pc.equal(videos["split"], summary.split))
        data = config.data
        source = {name: getattr(data, name) for name in SOURCE}
        if data.source == "shapes":
            source["shapes"] = repr(data.shapes)
        profile: dict[str, float] = {
            "num_videos": summary.num_videos,
            "num_captions": summary.num_captions,
        }
        if summary.hours is not None:
            profile["hours"] = round(summary.hours, 4)
        records.append(
            DatasetRecord(
                name=f"{config.name}-{summary.split}",
                context=summary.split,
                digest=digest(of_split),
                source={key: value for key, value in source.items() if value not in ("", None)},
                profile=profile,
            )
        )
    return records


def digest(videos: pa.Table) -> str:
    """The same for the same videos, captions and segments, wherever they lie."""
    there = [name for name in DECIDING if name in videos.column_names]
    content = json.dumps(videos.select(there).to_pydict(), sort_keys=True)
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()
