"""Making the segments of an index, and of them its next version."""

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from xpool.model import XPool
from xpool.scorer import Scorer
from xpool.scoring import make_scorer, video_terms
from xpool_platform.checkpoint_files import MANIFEST
from xpool_platform.config import ExperimentConfig
from xpool_platform.console import Stage
from xpool_platform.locations import is_file
from xpool_platform.search.encode_videos import encoded_videos
from xpool_platform.search.first_stage import (
    TRAINED_ON,
    FirstStage,
    learn_first_stage,
    load_first_stage,
    save_first_stage,
    save_lists,
)
from xpool_platform.search.index_files import (
    CANDIDATES,
    ENTRY,
    MODELS,
    PART,
    SEGMENTS,
    STAGES,
    IndexVersion,
    SegmentEntry,
    finish_folder,
    parse_segment,
)
from xpool_platform.search.indexed_model import save_indexed_model
from xpool_platform.search.segment import Segment
from xpool_platform.search.segment_files import EncodedVideos
from xpool_platform.search.segment_writer import SegmentWriter

ROWS_COPIED = 1024


def new_version(
    folder: Path, model: XPool, config: ExperimentConfig, fingerprint: str, checkpoint: str
) -> IndexVersion:
    """An index without videos, of this model, of which a copy is written."""
    place = folder / MODELS / fingerprint
    if not is_file(f"{place}/{MANIFEST}"):
        part = place.with_name(f"{fingerprint}{PART}")
        shutil.rmtree(part, ignore_errors=True)  # a job was killed while it wrote
        reference = checkpoint if is_file(checkpoint) else ""
        save_indexed_model(part, model, config, reference=reference)
        finish_folder(part, place)
    num_frames, embed_dim = config.data.num_frames, model.embed_dim
    example = video_terms(model.pooling, torch.ones(1, num_frames, embed_dim))
    return IndexVersion(
        version=0,
        fingerprint=fingerprint,
        model=fingerprint,
        checkpoint=checkpoint,
        num_frames=num_frames,
        embed_dim=embed_dim,
        term_shapes={name: list(t.shape[1:]) for name, t in example.tensors.items()},
        segments=[],
    )


class IndexWriter:
    """Makes the segments of a new version of an index."""

    def __init__(
        self, folder: Path, version: IndexVersion, model: XPool, *, two_stage_from: int
    ) -> None:
        self._folder, self._version = folder, version
        self._scorer: Scorer = make_scorer(model.pooling)
        self._two_stage_from = two_stage_from
        self._stage_name = next((s.first_stage for s in version.segments if s.first_stage), "")
        (folder / SEGMENTS).mkdir(exist_ok=True)

    def encode(
        self,
        videos: pa.Table,
        model: XPool,
        config: ExperimentConfig,
        *,
        thumbnail_side: int,
        videos_per_segment: int,
        stage: Stage,
    ) -> list[SegmentEntry]:
        """Segments of these videos; one that a job before this one finished is taken as it is."""
        entries = []
        done = 0
        stage(0, len(videos), "videos")
        for i in range(0, len(videos), videos_per_segment):
            part = videos.slice(i, videos_per_segment)
            name = self._name(part, thumbnail_side)
            entry = self._finished(name)
            if entry is None:

                def counted(encoded: Iterable[EncodedVideos], before: int = done) -> Iterator[Any]:
                    for each in encoded:
                        yield each
                        before += len(each.rows)
                        stage(before, len(videos), "videos")

                batches = counted(encoded_videos(model, config, part, thumbnail_side))
                entry = self.write(name, batches, num_videos=len(part))
            entries.append(entry)
            self._stage_name = self._stage_name or entry.first_stage
            done += len(part)
            stage(done, len(videos), "videos")
        return entries

    def write(self, name: str, videos: Iterable[EncodedVideos], *, num_videos: int) -> SegmentEntry:
        """A segment of encoded videos."""
        folder = self._folder / SEGMENTS / name
        version = self._version
        writer = SegmentWriter(folder, version.term_shapes, version.embed_dim)
        try:
            for each in videos:
                writer.add(each)
        finally:
            writer.close()
        stage = self._first_stage(writer.part, num_videos)
        if stage is not None:
            self._fill(stage, writer.part)
        return writer.finish(first_stage=stage.name if stage else "")

    def compacted(self, segments: Sequence[Segment], videos_per_segment: int) -> list[SegmentEntry]:
        """The videos that are still there, in new segments; nothing is encoded again."""
        entries = []
        kept = [
            (segment, row)
            for segment in segments
            for row in np.setdiff1d(np.arange(segment.entry.num_videos), segment.removed).tolist()
        ]
        for i in range(0, len(kept), videos_per_segment):
            part = kept[i : i + videos_per_segment]
            digest = hashlib.blake2b(f"{self._two_stage_from}\n".encode(), digest_size=16)
            for segment, row in part:
                digest.update(f"{segment.entry.name}:{row}\n".encode())
            name = digest.hexdigest()
            entry = self._finished(name)
            entries.append(entry or self.write(name, _copies(part), num_videos=len(part)))
        return entries

    def next_version(self, segments: Sequence[SegmentEntry]) -> IndexVersion:
        """The index of these segments, which is not the index yet."""
        kept = [segment for segment in segments if segment.num_present]
        return replace(self._version, version=self._version.version + 1, segments=kept)

    def _name(self, videos: pa.Table, thumbnail_side: int) -> str:
        """The same for the same videos, so that work is found again."""
        digest = hashlib.blake2b(digest_size=16)
        how = (self._version.fingerprint, thumbnail_side, self._two_stage_from)
        digest.update(repr(how).encode())
        for row in videos.select(["video_id", "identity"]).to_pylist():
            digest.update(f"{row['video_id']}\0{row['identity']}\n".encode())
        return digest.hexdigest()

    def _finished(self, name: str) -> SegmentEntry | None:
        path = self._folder / SEGMENTS / name / ENTRY
        try:
            return parse_segment(path.read_bytes())
        except (OSError, ValueError):
            return None

    def _first_stage(self, part: Path, num_videos: int) -> FirstStage | None:
        """That of the index or, where it has none yet, one that is learnt from this segment."""
        if not self._two_stage_from or num_videos < self._two_stage_from:
            return None
        stages = self._folder / STAGES
        if self._stage_name:
            return load_first_stage(stages, self._stage_name)
        segment = _unnamed(part, num_videos)
        per_video = self._scorer.frame_vectors(segment.batch(0)[:1].to(torch.float32)).shape[1]
        rng = np.random.default_rng(0)
        count = min(num_videos, TRAINED_ON // per_video)
        rows = np.sort(rng.choice(num_videos, count, replace=False))
        vectors = []
        for number, start in enumerate(segment.starts[:-1]):
            own = rows[(rows >= start) & (rows < segment.starts[number + 1])] - start
            if len(own):
                terms = segment.batch(number)[torch.from_numpy(own)].to(torch.float32)
                vectors.append(self._scorer.frame_vectors(terms).flatten(0, 1))
        stage = learn_first_stage(torch.cat(vectors), num_videos * per_video)
        save_first_stage(stages, stage)
        self._stage_name = stage.name
        return stage

    def _fill(self, stage: FirstStage, part: Path) -> None:
        segment = _unnamed(part, 0)
        lists = stage.empty()
        for number in range(segment.num_batches):
            for some in range(0, int(segment.starts[number + 1] - segment.starts[number]), 512):
                terms = segment.batch(number)[some : some + 512].to(torch.float32)
                stage.add(lists, self._scorer.frame_vectors(terms))
        save_lists(part / CANDIDATES, lists)


def _unnamed(part: Path, num_videos: int) -> Segment:
    """A segment that has no name yet, to read what was written."""
    return Segment(
        part, SegmentEntry(name=part.name, num_videos=num_videos, num_captions=0, files={})
    )


def _copies(rows: Sequence[tuple[Segment, int]]) -> Iterator[EncodedVideos]:
    """Rows of segments, some at a time, as they were encoded."""
    for i in range(0, len(rows), ROWS_COPIED):
        some = rows[i : i + ROWS_COPIED]
        for segment in dict.fromkeys(segment for segment, _ in some):
            own = np.array([row for its, row in some if its is segment])
            yield segment.encoded(own)
