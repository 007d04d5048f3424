"""Writing a segment of an index: once, beside its place, and then under its name."""

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from xpool_platform.search.index_files import (
    ENTRY,
    PART,
    SegmentEntry,
    entries_of,
    finish_folder,
    segment_bytes,
)
from xpool_platform.search.segment_files import (
    CAPTIONS,
    MEAN,
    SHAPES,
    TERMS,
    THUMBNAIL_SCHEMA,
    THUMBNAILS,
    VIDEO_SCHEMA,
    VIDEOS,
    EncodedVideos,
)

ROWS_PER_BATCH = 8192
"""Videos whose terms lie one after the other in memory: 108 MB of 12 frames of width 512."""


class SegmentWriter:
    """Writes a segment beside its place; `finish` gives it its name."""

    def __init__(self, folder: Path, term_shapes: Mapping[str, list[int]], embed_dim: int) -> None:
        self._folder, self._part = folder, folder.with_name(f"{folder.name}{PART}")
        if self._part.exists():  # a job was killed here
            shutil.rmtree(self._part)
        self._part.mkdir(parents=True)
        self._shapes = {**term_shapes, MEAN: [embed_dim]}
        fields = [pa.field(name, _fixed(shape)) for name, shape in self._shapes.items()]
        about = {SHAPES: json.dumps(self._shapes).encode()}
        self._terms = _writer(self._part / TERMS, pa.schema(fields, metadata=about))
        self._videos = _writer(self._part / VIDEOS, VIDEO_SCHEMA)
        self._thumbnails = _writer(self._part / THUMBNAILS, THUMBNAIL_SCHEMA)
        schema = pa.schema([("row", pa.int64()), ("embed", _fixed([embed_dim]))])
        self._captions = _writer(self._part / CAPTIONS, schema)
        self._waiting: list[EncodedVideos] = []
        self._num_waiting = self._num_videos = self._num_captions = 0

    def add(self, videos: EncodedVideos) -> None:
        """The next videos."""
        pictures = [{"jpegs": jpegs} for jpegs in videos.thumbnails]
        self._thumbnails.write_batch(pa.RecordBatch.from_pylist(pictures, schema=THUMBNAIL_SCHEMA))
        self._waiting.append(videos)
        self._num_waiting += len(videos.rows)
        if self._num_waiting >= ROWS_PER_BATCH:
            self._write()

    def finish(self, *, first_stage: str = "") -> SegmentEntry:
        """Close the files and give the segment its name. `folder` of the writer may get others
        before."""
        self.close()
        files = entries_of(self._part)
        entry = SegmentEntry(
            name=self._folder.name,
            num_videos=self._num_videos,
            num_captions=self._num_captions,
            files=files,
            first_stage=first_stage,
        )
        (self._part / ENTRY).write_bytes(segment_bytes(entry))
        finish_folder(self._part, self._folder)
        return entry

    @property
    def part(self) -> Path:
        """Where it is written until it has its name."""
        return self._part

    def close(self) -> None:
        """Write what waits; no more videos come."""
        if self._waiting:
            self._write()
        for writer in (self._terms, self._videos, self._thumbnails, self._captions):
            writer.close()

    def _write(self) -> None:
        """A batch of each file but the thumbnails, which would fill the memory."""
        waiting, self._waiting = self._waiting, []
        rows = [row for videos in waiting for row in videos.rows]
        self._videos.write_batch(pa.RecordBatch.from_pylist(rows, schema=VIDEO_SCHEMA))
        counts = [len(row["captions"]) for row in rows]
        embeds = np.concatenate([videos.caption_embeds for videos in waiting])
        assert sum(counts) == len(embeds)
        if len(embeds):
            of_row = np.repeat(self._num_videos + np.arange(len(counts)), counts)
            columns = [pa.array(of_row), _fixed_array(embeds)]
            self._captions.write_batch(pa.RecordBatch.from_arrays(columns, ["row", "embed"]))
        tensors = [{**videos.terms.tensors, MEAN: videos.mean_embeds} for videos in waiting]
        columns = [
            _fixed_array(torch.cat([each[name] for each in tensors]).numpy())
            for name in self._shapes
        ]
        self._terms.write_batch(pa.RecordBatch.from_arrays(columns, list(self._shapes)))
        self._num_videos += len(rows)
        self._num_captions += len(embeds)
        self._num_waiting = 0


def _fixed(shape: list[int]) -> pa.DataType:
    return pa.list_(pa.float16(), math.prod(shape))


def _fixed_array(values: np.ndarray) -> pa.Array:
    """Rows of float16 as an array of lists, without a copy."""
    flat = np.ascontiguousarray(values).reshape(len(values), -1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), flat.shape[1])


def _writer(path: Path, schema: pa.Schema) -> pa.RecordBatchFileWriter:
    return pa.ipc.new_file(str(path), schema)
