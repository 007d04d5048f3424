"""The evaluation of a model that goes on learning meanwhile, by workers of its own."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import ray
import torch
from torch import Tensor

from xpool.model import build_model
from xpool_platform.config import ExperimentConfig
from xpool_platform.evaluate.encode import SplitEmbeds
from xpool_platform.evaluate.encoders import Encoders


class EvaluationBeside:
    """train.eval_workers workers, started at once, that score a split for one model at a time."""

    def __init__(
        self, config: ExperimentConfig, videos: pa.Table, *, on_batch: Callable[[], None]
    ) -> None:
        self._videos, self._on_batch = videos, on_batch
        with torch.random.fork_rng(devices=[]):  # the training draws on as without it
            self._model = build_model(config.model, config.loss, load_pretrained=False).eval()
        self._encoders = Encoders(self._model, config, num_workers=config.train.eval_workers)
        self._pool = ThreadPoolExecutor(1)

    def begin(self, weights: Mapping[str, Tensor]) -> Future[dict[str, float]]:
        """The metrics of a model with these weights, in the host's memory and nobody else's.

        They are those of `measure.split_metrics`, ValueError included.
        """
        return self._pool.submit(self._metrics, weights)

    def stop(self) -> None:
        """Give back what the workers hold."""
        self._pool.shutdown()
        self._encoders.stop()

    def _metrics(self, weights: Mapping[str, Tensor]) -> dict[str, float]:
        self._model.load_state_dict(weights)
        self._encoders.take(self._model)
        captions = self._videos["captions"].to_pylist()
        try:
            frame_embeds = self._encoders.videos(self._videos, self._stage)
            text_embeds = self._encoders.texts(
                [text for of_video in captions for text in of_video], self._stage
            )
            return self._encoders.metrics(
                SplitEmbeds(
                    text_embeds=text_embeds,
                    frame_embeds=frame_embeds,
                    video_of_text=np.repeat(np.arange(len(captions)), [len(c) for c in captions]),
                )
            )
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ValueError):
                raise error.cause from None
            raise

    def _stage(self, *_: object, **__: object) -> None:
        self._on_batch()
