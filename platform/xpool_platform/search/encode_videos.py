"""Ray workers that turn videos into what an index keeps of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import simplejpeg
import torch
from jaxtyping import Float, UInt8
from ray.util import ActorPool
from torch import Tensor
from torch.nn import functional as F

from xpool.clip import Tokenizer, build_tokenizer, encode_text_prefix
from xpool.model import XPool
from xpool.sampling import uniform_frame_indices
from xpool.scorer import Terms
from xpool.scoring import check_finite_terms, make_scorer, video_terms
from xpool.transforms import eval_transform
from xpool_platform.config import ExperimentConfig
from xpool_platform.data.frame_store import read_video
from xpool_platform.data.plain_text import shown
from xpool_platform.errors import UserError
from xpool_platform.evaluate.encode import TEXTS_AT_ONCE
from xpool_platform.placement import WHERE_TRAINING
from xpool_platform.search.segment_files import EncodedVideos

THUMBNAIL_QUALITY = 80
MAX_RESTARTS = 2
"""Times that a worker that died is replaced and its share done again."""


@dataclass(frozen=True, slots=True)
class SampledClip:
    """What the model sees of a video."""

    frames: UInt8[np.ndarray, "num_frames height width 3"]
    times_s: Float[np.ndarray, " num_frames"]


class VideoEncoder:
    """A model ready to encode, in this process."""

    def __init__(
        self, model: XPool, config: ExperimentConfig, device: torch.device, thumbnail_side: int
    ) -> None:
        self._model, self._device = model.to(device).eval(), device
        self._scorer = make_scorer(self._model.pooling)
        self._tokenizer: Tokenizer = build_tokenizer(config.model)
        self._side = thumbnail_side

    @torch.no_grad()
    def encode(self, rows: list[dict[str, Any]], clips: Sequence[SampledClip]) -> EncodedVideos:
        """What an index keeps of these videos, whose rows have the columns of its table.

        Raises UserError for a video or caption to which the model gives no finite numbers.
        """
        frame_embeds = self.frame_embeds(clips)
        bad = ~torch.isfinite(frame_embeds.flatten(1)).all(dim=1)
        if bad.any():
            video_id = rows[int(bad.nonzero()[0])]["video_id"]
            raise UserError(
                f"the model gives no finite embedding for the video {video_id!r}; its training "
                "diverged, or its checkpoint is damaged"
            )
        texts = [text for row in rows for text in row["captions"]]
        caption_embeds = self.text_embeds(texts).half().cpu()
        bad = ~torch.isfinite(caption_embeds).all(dim=1)
        if bad.any():
            raise UserError(
                f"the model gives no finite embedding in float16 for the caption "
                f"{shown(texts[int(bad.nonzero()[0])])}; its training diverged, or its checkpoint "
                "is damaged"
            )
        return EncodedVideos(
            rows=[
                {**row, "times_s": clip.times_s.tolist()}
                for row, clip in zip(rows, clips, strict=True)
            ],
            terms=half_terms(video_terms(self._scorer, frame_embeds), rows),
            mean_embeds=mean_embeds(frame_embeds).half().cpu(),
            caption_embeds=caption_embeds.numpy(),
            thumbnails=[self._thumbnails(clip) for clip in clips],
        )

    @torch.no_grad()
    def frame_embeds(
        self, clips: Sequence[SampledClip]
    ) -> Float[Tensor, "num_videos num_frames embed_dim"]:
        """Embeddings of the frames; the towers in bfloat16 on a GPU, as in an evaluation."""
        size = self._model.image_size
        pixels = torch.stack(
            [eval_transform(torch.from_numpy(c.frames).permute(0, 3, 1, 2), size) for c in clips]
        )
        with self._autocast():
            return self._model.encode_frames(pixels.to(self._device)).float()

    @torch.no_grad()
    def text_embeds(self, texts: list[str]) -> Float[Tensor, "num_texts embed_dim"]:
        """Embeddings of texts."""
        parts = [torch.empty(0, self._model.embed_dim, device=self._device)]
        for i in range(0, len(texts), TEXTS_AT_ONCE):
            tokens = self._tokenizer(texts[i : i + TEXTS_AT_ONCE]).to(self._device)
            with self._autocast():
                parts.append(encode_text_prefix(self._model.clip, tokens).float())
        return torch.cat(parts)

    def _thumbnails(self, clip: SampledClip) -> list[bytes]:
        if not self._side:
            return []
        jpegs: dict[float, bytes] = {}
        for time, frame in zip(clip.times_s.tolist(), clip.frames, strict=True):
            if time not in jpegs:  # of a short video the last frame comes again
                jpegs[time] = _small_jpeg(frame, self._side)
        return [jpegs[time] for time in clip.times_s.tolist()]

    def _autocast(self) -> torch.autocast:
        return torch.autocast("cuda", torch.bfloat16, enabled=self._device.type == "cuda")


def mean_embeds(
    frame_embeds: Float[Tensor, "num_videos num_frames embed_dim"],
) -> Float[Tensor, "num_videos embed_dim"]:
    """A video by itself, for no text: the mean of its L2-normalised frames, normalised."""
    return F.normalize(F.normalize(frame_embeds, dim=-1).mean(dim=1), dim=-1)


def half_terms(terms: Terms, rows: Sequence[dict[str, Any]]) -> Terms:
    """Terms in float16. Raises UserError where they are too large for it."""
    half = terms.to(torch.float16, torch.device("cpu"))
    try:
        check_finite_terms(half)
    except ValueError as error:
        raise UserError(
            f"the terms of videos from {rows[0]['video_id']!r} on do not fit float16 ({error}); "
            "the model's weights are too large for an index"
        ) from error
    return half


def sampled_clip(frames_uri: str, num_available: int, num_frames: int) -> SampledClip:
    """What the model sees of a video in a frame store. Raises UserError for a damaged file."""
    video = read_video(frames_uri, uniform_frame_indices(num_available, num_frames))
    return SampledClip(frames=video.frames, times_s=video.times_s)


class _Worker:
    """A process that encodes shares of the videos."""

    def __init__(self, config: ExperimentConfig, thumbnail_side: int) -> None:
        torch.set_num_threads(max(1, int(config.train.cpus_per_worker)))
        self._config, self._side = config, thumbnail_side
        self._encoder: VideoEncoder | None = None

    def encode(self, shared: list[ray.ObjectRef], share: pa.Table) -> EncodedVideos:
        if self._encoder is None:
            device = torch.device("cuda" if self._config.train.use_gpu else "cpu")
            model = ray.get(shared[0])
            self._encoder = VideoEncoder(model, self._config, device, self._side)
        rows = share.to_pylist()
        clips = [
            sampled_clip(row.pop("frames_uri"), row.pop("num_frames"), self._config.data.num_frames)
            for row in rows
        ]
        return self._encoder.encode(rows, clips)


def encoded_videos(
    model: XPool, config: ExperimentConfig, videos: pa.Table, thumbnail_side: int
) -> Iterator[EncodedVideos]:
    """All videos of a table, in its order, some at a time; train.* says by how many workers.

    The table has the columns of `segment_files.VIDEO_SCHEMA` but the times, `frames_uri` and
    `num_frames`. Raises UserError as `VideoEncoder.encode`, within Ray's error.
    """
    train = config.train
    worker = ray.remote(_Worker).options(
        num_cpus=train.cpus_per_worker,
        num_gpus=train.gpus_per_worker if train.use_gpu else 0,
        max_restarts=MAX_RESTARTS,
        max_task_retries=MAX_RESTARTS,
        label_selector=WHERE_TRAINING,
    )
    shared = [ray.put(model)]
    size = config.eval.batch_size
    shares = [videos.slice(i, size) for i in range(0, len(videos), size)]
    num_workers = min(train.num_workers, len(shares))
    workers: list[Any] = [worker.remote(config, thumbnail_side) for _ in range(num_workers)]
    try:
        pool = ActorPool(workers * 2)  # the next share waits at the worker
        yield from pool.map(lambda actor, share: actor.encode.remote(shared, share), shares)
    finally:
        for actor in workers:
            ray.kill(actor)


def _small_jpeg(frame: UInt8[np.ndarray, "height width 3"], side: int) -> bytes:
    height, width = frame.shape[:2]
    scale = side / min(height, width)
    if scale < 1:
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        pixels = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
        small = F.interpolate(pixels, size, mode="bilinear", antialias=True)
        frame = small[0].round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()
    return bytes(
        simplejpeg.encode_jpeg(
            np.ascontiguousarray(frame), quality=THUMBNAIL_QUALITY, colorsubsampling="420"
        )
    )
