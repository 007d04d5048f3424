"""Before a training whose towers are frozen: all that they say, once."""

import pyarrow as pa
import torch

from xpool_platform.config import ExperimentConfig
from xpool_platform.console import Console
from xpool_platform.data.embedding_cache import missing_embeds, with_embeds_uris
from xpool_platform.evaluate.encoders import Encoders
from xpool_platform.evaluate.frozen_towers import towers_fingerprint
from xpool_platform.train.first_model import first_model


def embed_once(
    videos: pa.Table, config: ExperimentConfig, console: Console
) -> tuple[pa.Table, str]:
    """The videos with the places of their embeddings, all of them there, and the fingerprint.

    The towers are those that the training begins with and keeps.
    """
    torch.manual_seed(config.train.seed)  # as a training worker does: it builds the same towers
    model = first_model(config)
    towers = towers_fingerprint(model, config)
    videos = with_embeds_uris(videos, towers)
    missing = missing_embeds(videos)
    with console.stage("embedding") as stage:
        stage(0, len(missing))
        if len(missing):
            encoders = Encoders(model, config)
            try:
                encoders.cache(missing, stage)
            finally:
                encoders.stop()
    return videos, towers
