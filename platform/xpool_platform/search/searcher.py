"""An index with its model: sentences and videos in, answers out."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import simplejpeg
import torch
from jaxtyping import Float
from torch import Tensor

from xpool.sampling import uniform_frame_indices
from xpool.scorer import Terms
from xpool.scoring import video_terms
from xpool_platform.data.decode_guard import DecodeGuard
from xpool_platform.data.video import FrameSettings, VideoError
from xpool_platform.errors import UserError
from xpool_platform.locations import is_uri, local_file
from xpool_platform.search.answers import (
    AttentionAnswer,
    CaptionAnswer,
    FrameAnswer,
    MomentAnswer,
    VideoAnswer,
)
from xpool_platform.search.config import Method
from xpool_platform.search.encode_videos import SampledClip, VideoEncoder, mean_embeds
from xpool_platform.search.index_files import INDEX, MODELS, read_version
from xpool_platform.search.indexed_model import load_indexed_model
from xpool_platform.search.moments import moments_of
from xpool_platform.search.search_index import SearchIndex, open_index

MAX_CAPTIONS = 5
"""Captions that are shown of a video that was found."""

MAX_REMEMBERED = 1024
"""Sentences whose embeddings are remembered, for the questions that follow a search."""

Place = tuple[int, int]


class Searcher:
    """Answers from the index that is there now, in one thread at a time.

    With `shard` (i, n) from every n-th part of it. Raises UserError if there is no index, or its
    model is not the one it was made with.
    """

    def __init__(
        self, folder: Path, *, num_threads: int = 0, shard: tuple[int, int] = (0, 1)
    ) -> None:
        self._threads = num_threads or os.cpu_count() or 1
        torch.set_num_threads(self._threads)
        version = read_version(folder)
        model, config = load_indexed_model(folder / MODELS / version.model, version.fingerprint)
        self.folder, self._shard = folder, shard
        self.fingerprint = version.fingerprint
        self.config = config
        self._model = model
        self._encoder = VideoEncoder(model, config, torch.device("cpu"), 0)
        self._remembered: dict[str, np.ndarray] = {}
        self._busy = threading.Lock()
        self._seen = self._state()
        self._index = self._opened()

    @property
    def index(self) -> SearchIndex:
        """The index that is open."""
        return self._index

    def refresh(self) -> bool:
        """Open the index anew if another version has taken its place; whether one has.

        Raises UserError if that cannot be opened; the one that is open stays.
        """
        state = self._state()
        if state == self._seen:
            return False
        if read_version(self.folder).fingerprint != self.fingerprint:
            raise UserError(
                f"{self.folder} was made anew with another model; start the service again"
            )
        index = self._opened()
        with self._busy:
            self._index, self._seen = index, state
        return True

    def encode(self, sentences: Sequence[str]) -> Float[np.ndarray, "num_texts embed_dim"]:
        """The embeddings of sentences; those of the last ones are remembered."""
        with self._busy:
            new = [text for text in dict.fromkeys(sentences) if text not in self._remembered]
            if new:
                embeds = self._encoder.text_embeds(new).numpy()
                self._remembered |= dict(zip(new, embeds, strict=True))
            found = np.stack([self._remembered[sentence] for sentence in sentences])
            for text in list(self._remembered)[:-MAX_REMEMBERED]:
                del self._remembered[text]
            return found

    def search(
        self, text_embeds: Float[np.ndarray, "num_texts embed_dim"], k: int, method: Method
    ) -> list[list[VideoAnswer]]:
        """The k best videos of each text, with its attention."""
        with self._busy:
            index, texts = self._index, torch.from_numpy(text_embeds)
            answers = []
            for text, hits in zip(texts, index.search(texts, k, method), strict=True):
                weights = index.attention(text, [(hit.segment, hit.row) for hit in hits])
                answers.append(
                    [
                        self._video(rank, (hit.segment, hit.row), hit.score, its)
                        for rank, (hit, its) in enumerate(zip(hits, weights, strict=True), start=1)
                    ]
                )
            return answers

    def attention(
        self, text_embed: Float[np.ndarray, " embed_dim"], query: str, video_id: str
    ) -> AttentionAnswer | None:
        """How a text attends to a video; None if the index has no such video."""
        with self._busy:
            place = self._index.find(video_id)
            if place is None:
                return None
            text = torch.from_numpy(text_embed)
            weights = self._index.attention(text, [place])[0]
            found = self._video(1, place, self._index.score(text, place), weights)
            return AttentionAnswer(
                query=query,
                video_id=video_id,
                score=found.score,
                moments=found.moments,
                frames=found.frames,
            )

    def by_itself(self, video_id: str) -> tuple[np.ndarray, Terms] | None:
        """The mean embedding and the terms of a video; None if the index has no such video."""
        index = self._index
        place = index.find(video_id)
        return None if place is None else (index.mean_embed(place).numpy(), index.terms_of([place]))

    def similar(
        self, mean_embed: Float[np.ndarray, " embed_dim"], k: int, *, without: str = ""
    ) -> list[VideoAnswer]:
        """Videos like one, for no text, but for the one of this id."""
        with self._busy:
            hits = self._index.similar(torch.from_numpy(mean_embed), k + 1)
            found = [self._video(0, (hit.segment, hit.row), hit.score, None) for hit in hits]
            others = [video for video in found if video.video_id != without][:k]
            return [video.model_copy(update={"rank": i + 1}) for i, video in enumerate(others)]

    def captions_for(self, terms: Terms, k: int) -> list[CaptionAnswer]:
        """The captions of the index that fit a video best."""
        with self._busy:
            answers = []
            for rank, hit in enumerate(self._index.captions_for(terms, k), start=1):
                record = self._index.record((hit.segment, hit.row))
                answers.append(
                    CaptionAnswer(
                        rank=rank,
                        caption=record["captions"][hit.position],
                        video_id=record["video_id"],
                        score=hit.score,
                    )
                )
            return answers

    def example(self, video: str) -> tuple[np.ndarray, Terms]:
        """A video file that need not be in the index: its mean embedding, and its terms.

        Raises UserError if it cannot be decoded.
        """
        data = self.config.data
        guard = DecodeGuard(data.decode_deadline_s, data.decode_memory_bytes)
        try:
            with local_file(video) as path:
                encoded = guard.encode(path, FrameSettings.of(data))
        except OSError as error:
            raise UserError(
                f"video {video!r} cannot be read ({error.strerror or error})"
            ) from error
        except VideoError as error:
            raise UserError(f"video {video!r} cannot be decoded ({error})") from error
        finally:
            guard.close()
        indices = uniform_frame_indices(len(encoded.jpegs), data.num_frames)
        # through JPEG, as the frames of the index
        frames = np.stack([simplejpeg.decode_jpeg(encoded.jpegs[index]) for index in indices])
        clip = SampledClip(frames, encoded.times_s[indices])
        with self._busy, torch.no_grad():
            embeds = self._encoder.frame_embeds([clip])
            terms = video_terms(self._model.pooling, embeds)
            return mean_embeds(embeds)[0].numpy(), terms

    def record(self, video_id: str) -> dict[str, Any] | None:
        """What the index knows of a video; None if it is not there."""
        index = self._index  # another version may take its place at any moment
        place = index.find(video_id)
        return None if place is None else index.record(place)

    def thumbnail(self, video_id: str, position: int) -> bytes | None:
        """The JPEG file of a sampled frame; None if there is none."""
        index = self._index
        place = index.find(video_id)
        return None if place is None else index.segments[place[0]].thumbnail(place[1], position)

    def _opened(self) -> SearchIndex:
        return open_index(
            self.folder, self._model.pooling, num_threads=self._threads, shard=self._shard
        )

    def _state(self) -> tuple[int, int]:
        try:
            status = (self.folder / INDEX).stat()
        except FileNotFoundError:
            return 0, 0
        return status.st_mtime_ns, status.st_ino

    def _video(
        self, rank: int, place: Place, score: float, weights: Tensor | np.ndarray | None
    ) -> VideoAnswer:
        record = self._index.record(place)
        times: list[float] = record["times_s"]
        start = record["start_s"] or 0.0
        end = max(start + record["duration_s"], times[-1])
        shares = [] if weights is None else [float(weight) for weight in weights]
        moments = [] if weights is None else moments_of(times, shares, start, end)
        shown: Sequence[float | None] = shares or [None] * len(times)
        name = quote(record["video_id"])
        has_thumbnails = self._index.segments[place[0]].has_thumbnails
        return VideoAnswer(
            rank=rank,
            video_id=record["video_id"],
            score=score,
            start_s=start,
            end_s=end,
            duration_s=record["duration_s"],
            captions=record["captions"][:MAX_CAPTIONS],
            num_captions=len(record["captions"]),
            moments=[MomentAnswer.of(moment) for moment in moments],
            frames=[
                FrameAnswer(
                    time_s=time,
                    weight=share,
                    thumbnail=f"/thumbnails/{position}/{name}" if has_thumbnails else None,
                )
                for position, (time, share) in enumerate(zip(times, shown, strict=True))
            ],
            video=f"/videos/{name}" if record["uri"] else None,
        )


def video_location(video: str) -> str:
    """A video file that a user names. Raises UserError if there is none."""
    if not is_uri(video) and not os.path.isfile(video):
        raise UserError(
            f"video {video!r} is neither in the index nor a file; give an id that a search shows, "
            "or the path of a video"
        )
    return video if is_uri(video) else os.path.abspath(video)
