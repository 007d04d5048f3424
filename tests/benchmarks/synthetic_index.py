"""An index of very many videos that are not there: embeddings with the structure of CLIP's.

All frames share a direction, vary along axes of falling variance, and lie in clusters: videos of a
topic are alike, a video has three scenes of four frames, frames of a scene nearly coincide. A query
is a scene of one of the videos, mostly noise, and lies elsewhere than the frames, as texts do.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from xpool.config import ModelConfig
from xpool.model import XPool, build_model
from xpool.scoring import make_scorer, video_terms
from xpool_platform.config import ExperimentConfig
from xpool_platform.search.encode_videos import mean_embeds
from xpool_platform.search.index_files import IndexVersion, write_version
from xpool_platform.search.index_writer import IndexWriter, new_version
from xpool_platform.search.indexed_model import fingerprint_of
from xpool_platform.search.segment_files import EncodedVideos

WIDTH, NUM_FRAMES, NUM_SCENES = 512, 12, 3
VIDEOS_AT_ONCE = 2048
NUM_TOPICS = 2000
PERTURBATION = 0.02
"""Standard deviation of what is added to each parameter of the pooling: it is not the identity."""


@dataclass(frozen=True, kw_only=True)
class SyntheticIndex:
    folder: Path
    version: IndexVersion
    model: XPool
    queries: Tensor
    """[num_queries, WIDTH]"""


class Space:
    """Where the embeddings lie."""

    def __init__(self, seed: int) -> None:
        self.random = torch.Generator().manual_seed(seed)
        spectrum = torch.arange(1, WIDTH + 1).float() ** -0.5
        self._spectrum = spectrum / spectrum.norm()
        self._axes = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=self.random))[0]
        self.shared = self.draw(1, 1.0)
        self.topics = self.draw(NUM_TOPICS, 1.0)

    def draw(self, count: int, scale: float) -> Tensor:
        noise = torch.randn(count, WIDTH, generator=self.random)
        return scale * (noise * self._spectrum) @ self._axes

    def scenes(self, num_videos: int) -> Tensor:
        """[num_videos, NUM_SCENES, WIDTH]"""
        topic = torch.randint(NUM_TOPICS, (num_videos,), generator=self.random)
        of_video = self.topics[topic] + self.draw(num_videos, 0.7)
        own = self.draw(num_videos * NUM_SCENES, 0.7).view(num_videos, NUM_SCENES, WIDTH)
        return of_video[:, None] + own

    def frames(self, scenes: Tensor) -> Tensor:
        """[num_videos, NUM_FRAMES, WIDTH]"""
        repeated = scenes.repeat_interleave(NUM_FRAMES // NUM_SCENES, dim=1)
        noise = self.draw(repeated.shape[0] * NUM_FRAMES, 0.25).view_as(repeated)
        return self.shared + repeated + noise

    def texts(self, scenes: Tensor) -> Tensor:
        """[num_scenes, WIDTH] for scenes of the same shape."""
        return 0.5 * self.shared + scenes + self.draw(len(scenes), 2.5)


def synthetic_index(
    folder: Path, num_videos: int, *, num_queries: int = 200, two_stage_from: int = 20_000
) -> SyntheticIndex:
    """Towers of ViT-B/32's shape, random, and an index of videos that they never saw."""
    torch.manual_seed(0)
    config = ExperimentConfig(model=ModelConfig(clip_name="ViT-B-32"))
    model = build_model(config.model, load_pretrained=False).eval()
    for parameter in model.pooling.parameters():
        parameter.data += PERTURBATION * torch.randn_like(parameter)
    folder.mkdir(parents=True)
    version = new_version(folder, model, config, fingerprint_of(model, config), "random weights")
    space = Space(1)
    kept: list[Tensor] = []
    every = max(1, num_videos // num_queries)

    @torch.no_grad()
    def videos() -> Iterator[EncodedVideos]:
        scorer = make_scorer(model.pooling)
        for first in range(0, num_videos, VIDEOS_AT_ONCE):
            count = min(VIDEOS_AT_ONCE, num_videos - first)
            scenes = space.scenes(count)
            chosen = [i for i in range(count) if (first + i) % every == 0]
            kept.extend(scenes[i, (first + i) // every % NUM_SCENES] for i in chosen)
            frames = space.frames(scenes)
            yield EncodedVideos(
                rows=[_row(first + i) for i in range(count)],
                terms=video_terms(scorer, frames).to(torch.float16),
                mean_embeds=mean_embeds(frames).half(),
                caption_embeds=np.empty((0, WIDTH), np.float16),
                thumbnails=[[] for _ in range(count)],
            )

    writer = IndexWriter(folder, version, model, two_stage_from=two_stage_from)
    entry = writer.write("synthetic", videos(), num_videos=num_videos)
    version = write_version(folder, writer.next_version([entry]))
    return SyntheticIndex(
        folder=folder,
        version=version,
        model=model,
        queries=space.texts(torch.stack(kept[:num_queries])),
    )


def with_recall(index: SyntheticIndex, recall: object) -> None:
    """Write what was measured into the index, as jobs/index.py does."""
    write_version(index.folder, replace(index.version, recall=recall))


def _row(number: int) -> dict[str, object]:
    return {
        "video_id": f"video-{number:07d}",
        "uri": "",
        "identity": str(number),
        "num_bytes": 0,
        "modified_ns": 0,
        "start_s": None,
        "end_s": None,
        "duration_s": float(NUM_FRAMES),
        "times_s": [i + 0.5 for i in range(NUM_FRAMES)],
        "captions": [],
    }
