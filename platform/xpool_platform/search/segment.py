"""A segment of an index that is read: Arrow files that are mapped into memory and never change."""

import json
import warnings
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Float, Int
from torch import Tensor

from xpool.scorer import Terms
from xpool_platform.errors import UserError
from xpool_platform.search.index_files import SegmentEntry
from xpool_platform.search.segment_files import (
    CAPTIONS,
    MEAN,
    SHAPES,
    TERMS,
    THUMBNAILS,
    VIDEOS,
    EncodedVideos,
)


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


def _starts(reader: pa.RecordBatchFileReader) -> Int[np.ndarray, " num_starts"]:
    counts = [reader.get_batch(number).num_rows for number in range(reader.num_record_batches)]
    return np.cumsum([0, *counts])


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
