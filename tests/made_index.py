"""Indexes of embeddings that a test makes itself: no towers, no videos, no Ray."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xpool.pooling import Pooling
from xpool.scoring import video_terms
from xpool_platform.search.encode_videos import mean_embeds
from xpool_platform.search.index_files import IndexVersion, write_version
from xpool_platform.search.index_writer import IndexWriter
from xpool_platform.search.segment_files import EncodedVideos


def row_of(video_id: str, captions: Sequence[str] = (), num_frames: int = 6) -> dict[str, Any]:
    """The columns of a video."""
    return {
        "video_id": video_id,
        "uri": f"/videos/{video_id}",
        "identity": f"identity of {video_id}",
        "num_bytes": 1234,
        "modified_ns": 5678,
        "start_s": None,
        "end_s": 7.5,
        "duration_s": float(num_frames),
        "times_s": [i + 0.5 for i in range(num_frames)],
        "captions": list(captions),
    }


@torch.no_grad()
def encoded_videos(
    pooling: Pooling,
    frames: Tensor,
    ids: Sequence[str],
    *,
    captions: Sequence[Sequence[str]] | None = None,
    caption_embeds: Tensor | None = None,
    thumbnails: Sequence[list[bytes]] | None = None,
) -> EncodedVideos:
    """As `VideoEncoder.encode` gives them, of frame embeddings [num_videos, num_frames, width]."""
    captions = captions or [()] * len(ids)
    embeds = torch.empty(0, frames.shape[-1]) if caption_embeds is None else caption_embeds
    return EncodedVideos(
        rows=[
            row_of(video_id, own, frames.shape[1])
            for video_id, own in zip(ids, captions, strict=True)
        ],
        terms=video_terms(pooling, frames).to(torch.float16),
        mean_embeds=mean_embeds(frames).half(),
        caption_embeds=embeds.half().numpy(),
        thumbnails=list(thumbnails or [[]] * len(ids)),
    )


def index_of_nothing(pooling: Pooling, num_frames: int = 6, width: int = 24) -> IndexVersion:
    """What an index is before it has videos."""
    example = video_terms(pooling, torch.ones(1, num_frames, width))
    return IndexVersion(
        version=0,
        fingerprint="of the model",
        model="of the model",
        checkpoint="of a test",
        num_frames=num_frames,
        embed_dim=width,
        term_shapes={name: list(t.shape[1:]) for name, t in example.tensors.items()},
        segments=[],
    )


def index_writer(
    folder: Path, pooling: Pooling, version: IndexVersion, two_stage_from: int = 0
) -> IndexWriter:
    """A writer, which takes nothing of a model but its pooling."""
    folder.mkdir(parents=True, exist_ok=True)
    model: Any = SimpleNamespace(pooling=pooling)
    return IndexWriter(folder, version, model, two_stage_from=two_stage_from)


def write_index(
    folder: Path,
    pooling: Pooling,
    frames: Tensor,
    *,
    per_segment: int,
    per_share: int = 50,
    two_stage_from: int = 0,
    captions: Sequence[Sequence[str]] | None = None,
    caption_embeds: Tensor | None = None,
) -> IndexVersion:
    """An index of the videos `0`, `1` and so on."""
    ids = [str(i) for i in range(len(frames))]
    captions = captions or [()] * len(ids)
    ends = np.cumsum([0, *map(len, captions)])
    version = index_of_nothing(pooling, *frames.shape[1:])
    writer = index_writer(folder, pooling, version, two_stage_from)

    def share(start: int, stop: int) -> EncodedVideos:
        own = None if caption_embeds is None else caption_embeds[ends[start] : ends[stop]]
        here = slice(start, stop)
        return encoded_videos(
            pooling, frames[here], ids[here], captions=captions[here], caption_embeds=own
        )

    entries = []
    for first in range(0, len(frames), per_segment):
        last = min(first + per_segment, len(frames))
        shares = (share(i, min(i + per_share, last)) for i in range(first, last, per_share))
        entries.append(writer.write(f"from {first}", shares, num_videos=last - first))
    return write_version(folder, writer.next_version(entries))
