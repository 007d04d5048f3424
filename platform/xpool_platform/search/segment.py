"""One segment of an index: Arrow files, written once, then mapped into memory and never changed.

- `terms.arrow`: what `xpool.scoring` keeps of each video, and its mean embedding, in float16
- `videos.arrow`: what a video is called, where its file is, when its frames are shown, its captions
- `captions.arrow`: the embedding of each caption, in float16, and the row of its video
- `thumbnails.arrow`: the sampled frames as small JPEG files
"""

import json
import math
import shutil
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Float, Int
from torch import Tensor

from xpool.scorer import Terms
from xpool_platform.errors import UserError
from xpool_platform.search.index_files import (
    ENTRY,
    PART,
    SegmentEntry,
    entries_of,
    finish_folder,
    segment_bytes,
)

TERMS, VIDEOS, CAPTIONS, THUMBNAILS = (
    "terms.arrow",
    "videos.arrow",
    "captions.arrow",
    "thumbnails.arrow",
)
SHAPES = b"shapes"
MEAN = "mean_embed"

ROWS_PER_BATCH = 8192
"""Videos whose terms lie one after the other in memory: 108 MB of 12 frames of width 512."""

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


class Segment:
    """A segment that is read: nothing of it is in memory but what was asked for."""

    def __init__(self, folder: Path, entry: SegmentEntry) -> None:
        self.entry = entry
        self.folder = folder
        self._terms = _reader(folder / TERMS)
        self._captions = _reader(folder / CAPTIONS)
        self._thumbnails = _reader(folder / THUMBNAILS)
        self.videos: pa.Table = _reader(folder / VIDEOS).read_all()
        self._shapes: dict[str, list[int]] = json.loads(self._terms.schema.metadata[SHAPES])
        self.removed = np.array(entry.removed, dtype=np.int64)
        self._batches: dict[int, Terms] = {}
        self.starts = _starts(self._terms)
        """The first row of each batch, and the number of rows."""

    @cached_property
    def _thumbnail_starts(self) -> Int[np.ndarray, " num_starts"]:
        return _starts(self._thumbnails)

    @cached_property
    def has_thumbnails(self) -> bool:
        """Whether frames were kept."""
        return self.entry.num_videos > 0 and self.thumbnail(0, 0) is not None

    @property
    def num_batches(self) -> int:
        """Batches of terms."""
        return len(self.starts) - 1

    def batch(self, number: int) -> Terms:
        """The terms of a batch, where they lie in the file."""
        if number not in self._batches:  # which takes as long as a search of few videos
            batch = self._terms.get_batch(number)
            self._batches[number] = Terms(
                {
                    name: _tensor(batch.column(i)).view(-1, *self._shapes[name])
                    for i, name in enumerate(batch.schema.names)
                    if name != MEAN
                }
            )
        return self._batches[number]

    def mean_embeds(self, number: int) -> Float[Tensor, "num_videos embed_dim"]:
        """The mean embeddings of a batch, likewise."""
        batch = self._terms.get_batch(number)
        return _tensor(batch.column(batch.schema.names.index(MEAN))).view(len(batch), -1)

    def terms_of(self, rows: np.ndarray) -> Terms:
        """The terms of some rows, copied."""
        batches = np.searchsorted(self.starts, rows, side="right") - 1
        parts = [
            self.batch(number)[torch.tensor([int(row - self.starts[number])])]
            for row, number in zip(rows.tolist(), batches.tolist(), strict=True)
        ]
        names = parts[0].tensors
        return Terms({name: torch.cat([part.tensors[name] for part in parts]) for name in names})

    def captions(self) -> Iterator[tuple[np.ndarray, Tensor]]:
        """The embeddings of the captions, some at a time, with the rows of their videos."""
        for number in range(self._captions.num_record_batches):
            batch = self._captions.get_batch(number)
            embeds = _tensor(batch.column(1))
            yield batch.column(0).to_numpy(), embeds.view(len(batch), -1)

    def caption_place(self, number: int) -> tuple[int, int]:
        """The row of the video of a caption, and which of its captions it is."""
        counts = pc.list_value_length(self.videos["captions"]).to_numpy()
        stops = np.cumsum(counts)
        row = int(np.searchsorted(stops, number, side="right"))
        return row, number - int(stops[row] - counts[row])

    def rows_of(self, video_id: str) -> list[int]:
        """The rows of a video; more than one where it was taken out and added again."""
        return pc.indices_nonzero(pc.equal(self.videos["video_id"], video_id)).to_pylist()

    def thumbnail(self, row: int, position: int) -> bytes | None:
        """The JPEG file of a frame of a video; None if none was kept."""
        if not 0 <= row < self._thumbnail_starts[-1]:
            return None
        number = int(np.searchsorted(self._thumbnail_starts, row, side="right") - 1)
        batch = self._thumbnails.get_batch(number)
        jpegs = batch.column(0)[row - int(self._thumbnail_starts[number])].values
        return jpegs[position].as_py() if 0 <= position < len(jpegs) else None

    def encoded(self, rows: np.ndarray) -> EncodedVideos:
        """Some rows as they were encoded, copied, for another segment."""
        table = self.videos.take(pa.array(rows)).to_pylist()
        batches = np.searchsorted(self.starts, rows, side="right") - 1
        means = [
            self.mean_embeds(number)[int(row - self.starts[number])]
            for row, number in zip(rows.tolist(), batches.tolist(), strict=True)
        ]
        column = self._thumbnails.read_all()["jpegs"]
        return EncodedVideos(
            rows=table,
            terms=self.terms_of(rows),
            mean_embeds=torch.stack(means),
            caption_embeds=self._caption_embeds(rows),
            thumbnails=[column[row].as_py() for row in rows.tolist()],
        )

    def _caption_embeds(self, rows: np.ndarray) -> np.ndarray:
        table = self._captions.read_all()
        if not len(table):
            return np.empty((0, self._shapes[MEAN][0]), np.float16)
        of_row = table["row"].to_numpy()
        firsts, stops = (np.searchsorted(of_row, rows, side) for side in ("left", "right"))
        chosen = [np.arange(a, b) for a, b in zip(firsts, stops, strict=True)]
        taken = table["embed"].take(pa.array(np.concatenate(chosen))).combine_chunks()
        return taken.flatten().to_numpy().reshape(-1, self._shapes[MEAN][0])


def values_in(shape: list[int]) -> int:
    """Numbers in a tensor."""
    return math.prod(shape)


def _fixed(shape: list[int]) -> pa.DataType:
    return pa.list_(pa.float16(), values_in(shape))


def _fixed_array(values: np.ndarray) -> pa.Array:
    """Rows of float16 as an array of lists, without a copy."""
    flat = np.ascontiguousarray(values).reshape(len(values), -1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), flat.shape[1])


def _starts(reader: pa.RecordBatchFileReader) -> Int[np.ndarray, " num_starts"]:
    counts = [reader.get_batch(number).num_rows for number in range(reader.num_record_batches)]
    return np.cumsum([0, *counts])


def _writer(path: Path, schema: pa.Schema) -> pa.RecordBatchFileWriter:
    return pa.ipc.new_file(str(path), schema)


def _reader(path: Path) -> pa.RecordBatchFileReader:
    try:
        return pa.ipc.open_file(pa.memory_map(str(path)))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}); make the index anew") from error


def _tensor(column: pa.FixedSizeListArray) -> Tensor:
    """The numbers of a column, where they lie; the memory must not be written to."""
    return torch.from_numpy(column.flatten().to_numpy(zero_copy_only=True))


with warnings.catch_warnings(action="ignore"):
    # torch warns of such memory once in a process: here, where nobody sees it
    torch.from_numpy(np.frombuffer(b"\0\0", np.float16))
