"""An index that is open: the best videos for texts, attention, similar videos, captions."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from xpool.attention_scorer import AttentionScorer
from xpool.pooling import Pooling
from xpool.scorer import Scorer, Terms, Workspace
from xpool.scoring import attention_weights, make_scorer, score_matrix
from xpool_platform.errors import UserError
from xpool_platform.search.config import Method
from xpool_platform.search.first_stage import FirstStage, load_first_stage, load_lists, set_threads
from xpool_platform.search.hits import Best, Hit
from xpool_platform.search.index_files import (
    CANDIDATES,
    SEGMENTS,
    STAGES,
    IndexVersion,
    check_sizes,
    read_version,
)
from xpool_platform.search.segment import Segment

SCAN_FROM = 4096
"""Videos from which a scan is worth the import of its compiler."""

TWO_STAGE_RECALL = 0.99
"""Recall@10 from which `auto` takes two stages."""

OPEN_TRIES = 3


@dataclass(frozen=True, slots=True)
class CaptionHit:
    """A caption that was found, of the video of this segment and row."""

    segment: int
    row: int
    position: int
    """Among the captions of its video."""

    score: float


class SearchIndex:
    """A version of an index, mapped into memory.

    With `shard` (i, n) only every n-th batch of videos from i on is searched, in all ways but by
    id. Attributes: `version`; `segments`; `num_vectors` of each video in the first stage.
    """

    def __init__(
        self,
        folder: Path,
        version: IndexVersion,
        pooling: Pooling,
        *,
        num_threads: int = 1,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        self.version = version
        self.folder = folder
        self._scorer: Scorer = make_scorer(pooling)
        self._num_threads, self._shard = num_threads, shard
        for entry in version.segments:
            check_sizes(folder, entry)
        self.segments = [
            Segment(folder / SEGMENTS / entry.name, entry) for entry in version.segments
        ]
        self._stages: dict[str, FirstStage] = {
            name: load_first_stage(folder / STAGES, name)
            for name in {segment.first_stage for segment in version.segments} - {""}
        }
        self._lists: list[Any] = [
            load_lists(segment.folder / CANDIDATES) if segment.entry.first_stage else None
            for segment in self.segments
        ]

    @property
    def has_two_stages(self) -> bool:
        """Whether a segment has candidates."""
        return any(lists is not None for lists in self._lists)

    def method_for(self, method: Method) -> Method:
        """What `auto` means here. Raises UserError for two stages where there is no first one."""
        if method == "two-stage" and not self.has_two_stages:
            raise UserError(
                "method two-stage needs a first stage, and the index has none: it is small enough "
                "for exhaustive search, or was made with two_stage_from 0"
            )
        if method != "auto":
            return method
        recall = self.version.recall
        good = recall is not None and recall.at_10 >= TWO_STAGE_RECALL
        return "two-stage" if good and self.has_two_stages else "exhaustive"

    def search(
        self, text_embeds: Float[Tensor, "num_texts embed_dim"], k: int, method: Method = "auto"
    ) -> list[list[Hit]]:
        """The k best videos of each text, the best first; equal scores in the index's order.

        `exhaustive` looks at every video, `two-stage` at the candidates of the first stage (at all
        videos of segments without one); the scores are exact in both. Raises UserError as
        `method_for`.
        """
        best = Best(len(text_embeds), k)
        two_stage = self.method_for(method) == "two-stage"
        score = self._scoring_of(text_embeds)
        for number, segment in enumerate(self.segments):
            lists = self._lists[number]
            if two_stage and lists is not None:
                self._search_candidates(number, text_embeds, best)
                continue
            self._add(best, number, partial(_batch_scores, score, segment))
        return best.hits()

    def attention(
        self, text_embed: Float[Tensor, " embed_dim"], places: Sequence[tuple[int, int]]
    ) -> Float[np.ndarray, "num_places num_frames"]:
        """The share of each frame in what the text takes of each (segment, row)."""
        if not places:
            return np.empty((0, self.version.num_frames), np.float32)
        terms = self.terms_of(places)
        pairs = torch.stack([torch.zeros(len(places)), torch.arange(len(places))], dim=1).long()
        return attention_weights(self._scorer, text_embed[None], terms, pairs).numpy()

    def score(self, text_embed: Float[Tensor, " embed_dim"], place: tuple[int, int]) -> float:
        """The score of one video."""
        return float(score_matrix(self._scorer, text_embed[None], self.terms_of([place]))[0, 0])

    def terms_of(self, places: Sequence[tuple[int, int]]) -> Terms:
        """The terms of the videos at these places, in their order."""
        parts = [self.segments[segment].terms_of(np.array([row])) for segment, row in places]
        names = parts[0].tensors
        return Terms({name: torch.cat([part.tensors[name] for part in parts]) for name in names})

    def mean_embed(self, place: tuple[int, int]) -> Float[Tensor, " embed_dim"]:
        """The video at this place by itself, for no text."""
        segment, row = self.segments[place[0]], place[1]
        batch = int(np.searchsorted(segment.starts, row, side="right") - 1)
        return segment.mean_embeds(batch)[row - int(segment.starts[batch])].float()

    def similar(self, mean_embed: Float[Tensor, " embed_dim"], k: int) -> list[Hit]:
        """The videos whose mean embeddings have the largest cosine with this one."""
        best = Best(1, k)
        embed = F.normalize(mean_embed, dim=-1)
        for number, segment in enumerate(self.segments):
            self._add(best, number, partial(_cosines, embed, segment))
        return best.hits()[0]

    def captions_for(self, terms: Terms, k: int) -> list[CaptionHit]:
        """The k captions with the highest scores with a video of these terms."""
        best = Best(1, k)
        for number, segment in enumerate(self.segments):
            first = 0
            for batch, (rows, embeds) in enumerate(segment.captions()):
                if self._is_own(batch):
                    scores = score_matrix(self._scorer, embeds.float(), terms).numpy().T.copy()
                    scores[:, np.isin(rows, segment.removed)] = -np.inf
                    best.add(number, scores, np.arange(first, first + len(rows)))
                first += len(rows)
        hits = []
        for hit in best.hits()[0]:
            row, position = self.segments[hit.segment].caption_place(hit.row)
            hits.append(CaptionHit(hit.segment, row, position, hit.score))
        return hits

    def find(self, video_id: str) -> tuple[int, int] | None:
        """The segment and row of a video; None if it is not in the index."""
        for number, segment in enumerate(self.segments):
            for row in segment.rows_of(video_id):
                if row not in segment.removed:
                    return number, row
        return None

    def record(self, place: tuple[int, int]) -> dict[str, Any]:
        """What the index knows of a video: the columns of `segment_files.VIDEO_SCHEMA`."""
        return self.segments[place[0]].videos.slice(place[1], 1).to_pylist()[0]

    def captions(self) -> Iterator[tuple[str, Tensor]]:
        """All captions with their embeddings, one after the other."""
        for segment in self.segments:
            texts = (t for own in segment.videos["captions"] for t in (own.as_py() or []))
            for rows, embeds in segment.captions():
                for row, embed in zip(rows.tolist(), embeds, strict=True):
                    text = next(texts)
                    if row not in segment.removed:
                        yield text, embed.float()

    def _search_candidates(self, number: int, text_embeds: Tensor, best: Best) -> None:
        segment, lists = self.segments[number], self._lists[number]
        stage = self._stages[segment.entry.first_stage]
        set_threads(self._num_threads)
        probes = self._scorer.probes(self._scorer.text_terms(text_embeds)).float()
        per_video = lists.ntotal // segment.entry.num_videos
        for text, rows in enumerate(stage.candidates(lists, probes, per_video)):
            score = self._scoring_of_rows(text_embeds[text])
            present = rows[~np.isin(rows, segment.removed)]
            if len(present) < min(best.k, segment.entry.num_present):
                # of long videos, or where most were taken out, they are too few: then all
                every = np.arange(segment.entry.num_videos)
                present = np.setdiff1d(every, segment.removed)
            batches = np.searchsorted(segment.starts, present, side="right") - 1
            for batch in np.unique(batches).tolist():
                if self._is_own(batch):
                    own = present[batches == batch]
                    scores = score(segment.batch(batch), own - int(segment.starts[batch]))
                    best.add(number, scores[None], own, text=text)

    def _scoring_of(self, text_embeds: Tensor) -> Callable[[Terms], np.ndarray]:
        """What gives the scores [num_texts, num_videos] of a batch."""
        scorer, threads = self._scorer, self._num_threads
        if isinstance(scorer, AttentionScorer) and self.version.num_videos >= SCAN_FROM:
            from xpool.half_scan import FEW_TEXTS, scan, scanned_texts  # noqa: PLC0415  # takes 1 s

            if len(text_embeds) <= FEW_TEXTS:
                texts = scanned_texts(scorer, text_embeds)
                return lambda terms: np.stack(
                    [scan(text, terms, num_threads=threads) for text in texts]
                )
        work = Workspace(torch.float32, torch.device("cpu"))
        return lambda terms: score_matrix(
            scorer, text_embeds, terms, check_videos=False, work=work
        ).numpy()

    def _scoring_of_rows(
        self, text_embed: Tensor
    ) -> Callable[[Terms, Int[np.ndarray, " num_rows"]], Float[np.ndarray, " num_rows"]]:
        """What gives the scores of some rows of a batch."""
        scorer, threads = self._scorer, self._num_threads
        if isinstance(scorer, AttentionScorer):
            from xpool.half_scan import scan, scanned_texts  # noqa: PLC0415  # takes a second

            text = scanned_texts(scorer, text_embed[None])[0]
            return lambda terms, rows: scan(text, terms, rows, num_threads=threads)
        return lambda terms, rows: score_matrix(
            scorer, text_embed[None], terms[torch.from_numpy(rows)], check_videos=False
        ).numpy()[0]

    def _add(self, best: Best, number: int, scores_of: Callable[[int], np.ndarray]) -> None:
        """Add the scores [num_texts, num_videos] of all of a segment's batches that are its own."""
        segment = self.segments[number]
        batches = [batch for batch in range(segment.num_batches) if self._is_own(batch)]
        if not batches:
            return
        scores = np.concatenate([scores_of(batch) for batch in batches], axis=1)
        starts, stops = segment.starts[batches], segment.starts[np.array(batches) + 1]
        rows = np.concatenate([np.arange(a, b) for a, b in zip(starts, stops, strict=True)])
        if len(segment.removed):
            scores[:, np.isin(rows, segment.removed)] = -np.inf
        best.add(number, scores, rows)

    def _is_own(self, batch: int) -> bool:
        return batch % self._shard[1] == self._shard[0]


def open_index(
    folder: Path, pooling: Pooling, *, num_threads: int = 1, shard: tuple[int, int] = (0, 1)
) -> SearchIndex:
    """The index in a folder as it is now. Raises UserError if there is none, or it is damaged."""
    for left in reversed(range(OPEN_TRIES)):
        version = read_version(folder)
        try:
            return SearchIndex(folder, version, pooling, num_threads=num_threads, shard=shard)
        except (UserError, OSError):
            # another version may have taken its place, and its files are gone
            if not left or read_version(folder).version == version.version:
                raise
    raise AssertionError


def _batch_scores(
    score: Callable[[Terms], np.ndarray], segment: Segment, batch: int
) -> Float[np.ndarray, "num_texts num_videos"]:
    return score(segment.batch(batch))


def _cosines(
    embed: Float[Tensor, " embed_dim"], segment: Segment, batch: int
) -> Float[np.ndarray, "1 num_videos"]:
    return (segment.mean_embeds(batch).float() @ embed)[None].numpy()
