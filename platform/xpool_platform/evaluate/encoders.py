"""Ray workers that encode a split, each a share at a time."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
from jaxtyping import Float
from ray.util import ActorPool
from torch import Tensor

from xpool.clip import build_tokenizer
from xpool.model import XPool
from xpool_platform.config import ExperimentConfig
from xpool_platform.console import Stage
from xpool_platform.evaluate.encode import TEXTS_AT_ONCE, SplitEmbeds, load_clips
from xpool_platform.evaluate.frozen_towers import cache_embeds
from xpool_platform.evaluate.measure import split_metrics
from xpool_platform.placement import WHERE_TRAINING

VIDEOS_TO_CACHE = 8
"""Videos of one share when all their frames are encoded."""

MAX_RESTARTS = 2
"""Times that a worker that died is replaced and its share done again."""


class _Encoder:
    """One worker. It loads the frames of its next share while it encodes this one.

    The model comes with every share and is taken where it is another one: constructor arguments in
    the object store would not survive a restart.
    """

    def __init__(self, config: ExperimentConfig) -> None:
        torch.set_num_threads(max(1, int(config.train.cpus_per_worker)))
        self._device = torch.device("cuda" if config.train.use_gpu else "cpu")
        self._tokenizer = build_tokenizer(config.model)
        self._num_frames = config.data.num_frames
        self._num_resamples = config.eval.num_resamples
        self._model: XPool | None = None
        self._model_id = ""
        self._loading = threading.Lock()

    @torch.no_grad()
    def encode(self, shared: list[ray.ObjectRef], share: pa.Table | list[str]) -> np.ndarray:
        """Frame embeddings of videos, or embeddings of texts; the towers in bfloat16 on a GPU."""
        model = self._received(shared)
        with torch.autocast("cuda", torch.bfloat16, enabled=self._device.type == "cuda"):
            if isinstance(share, list):
                embeds = model.encode_text(self._tokenizer(share).to(self._device))
            else:
                clips = load_clips(share, self._num_frames, model.image_size)
                embeds = model.encode_frames(clips.to(self._device))
        return embeds.float().cpu().numpy()

    def _received(self, shared: list[ray.ObjectRef]) -> XPool:
        with self._loading:
            if self._model is None or self._model_id != shared[0].hex():
                self._model = ray.get(shared[0]).to(self._device).eval()
                self._model_id = shared[0].hex()
            return self._model

    def metrics(self, shared: list[ray.ObjectRef], embeds: SplitEmbeds) -> dict[str, float]:
        """The metrics of all embeddings of a split."""
        model = self._received(shared)
        there = replace(
            embeds,
            text_embeds=embeds.text_embeds.to(self._device),
            frame_embeds=embeds.frame_embeds.to(self._device),
        )
        return split_metrics(model.pooling, there, num_resamples=self._num_resamples)

    @torch.no_grad()
    def cache(self, shared: list[ray.ObjectRef], share: pa.Table) -> int:
        """Write the embeddings of all stored frames and of the captions; gives their number."""
        model = self._received(shared)
        for row in share.to_pylist():
            cache_embeds(model, self._tokenizer, row, self._device)
        return len(share)


class Encoders:
    """The workers of an evaluation, on what train.* gives each; train.num_workers by default."""

    def __init__(
        self, model: XPool, config: ExperimentConfig, *, num_workers: int | None = None
    ) -> None:
        train = config.train
        worker = ray.remote(_Encoder).options(
            num_cpus=train.cpus_per_worker,
            num_gpus=train.gpus_per_worker if train.use_gpu else 0,
            max_restarts=MAX_RESTARTS,
            max_task_retries=MAX_RESTARTS,
            max_concurrency=2,
            label_selector=WHERE_TRAINING,
            scheduling_strategy="DEFAULT",  # a training worker's own would be its placement group
        )
        self._config = config
        self._shared = [ray.put(model)]
        count = num_workers or train.num_workers
        self._workers: list[Any] = [worker.remote(config) for _ in range(count)]
        self._pool = ActorPool(self._workers * 2)  # one share is loaded, one encoded

    def take(self, model: XPool) -> None:
        """Go on with another model, or with the same one after it has changed."""
        self._shared = [ray.put(model)]

    def metrics(self, embeds: SplitEmbeds) -> dict[str, float]:
        """The metrics of a split by the model, computed by one of the workers."""
        found: dict[str, float] = ray.get(self._workers[0].metrics.remote(self._shared, embeds))
        return found

    def videos(
        self, videos: pa.Table, stage: Stage
    ) -> Float[Tensor, "num_videos num_frames embed_dim"]:
        """Frame embeddings, in the table's order."""
        size = self._config.eval.batch_size
        videos = videos.select(["frames_uri", "num_frames"])  # captions would travel for nothing
        shares = [videos.slice(i, size) for i in range(0, len(videos), size)]
        return torch.cat(list(self._encoded(shares, len(videos), "videos", stage)))

    def texts(self, texts: list[str], stage: Stage) -> Float[Tensor, "num_texts embed_dim"]:
        """Embeddings of texts, in order."""
        shares = [texts[i : i + TEXTS_AT_ONCE] for i in range(0, len(texts), TEXTS_AT_ONCE)]
        return torch.cat(list(self._encoded(shares, len(texts), "captions", stage)))

    def cache(self, videos: pa.Table, stage: Stage) -> None:
        """Write what `embedding_cache.with_embeds_uris` has named."""
        shares = [videos.slice(i, VIDEOS_TO_CACHE) for i in range(0, len(videos), VIDEOS_TO_CACHE)]
        done = 0
        stage(done, len(videos), "videos")
        work = self._pool.map_unordered(
            lambda worker, share: worker.cache.remote(self._shared, share), shares
        )
        for num_videos in work:
            done += num_videos
            stage(done, len(videos), "videos")

    def stop(self) -> None:
        """Give back what the workers hold."""
        for worker in self._workers:
            ray.kill(worker)

    def _encoded(self, shares: list[Any], total: int, what: str, stage: Stage) -> Iterator[Tensor]:
        done = 0
        stage(done, total, what)
        encoded = self._pool.map(
            lambda worker, share: worker.encode.remote(self._shared, share), shares
        )
        for embeds in encoded:
            done += len(embeds)
            stage(done, total, what)
            yield torch.from_numpy(np.array(embeds))
