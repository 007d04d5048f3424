"""The embeddings of a split, each worker encoding a share of the videos and their captions."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int
from torch import Tensor

from xpool.clip import Tokenizer
from xpool.model import XPool
from xpool.sampling import uniform_frame_indices
from xpool.transforms import eval_transform
from xpool_platform.data.kept_frames import load_frames
from xpool_platform.data.plan import worker_bounds

TEXTS_AT_ONCE = 256

GatherRows = Callable[[Tensor, list[int]], Tensor]
"""(own rows, rows of each worker) to the rows of all workers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitEmbeds:
    """All that scoring needs of a split."""

    text_embeds: Float[Tensor, "num_texts embed_dim"]
    frame_embeds: Float[Tensor, "num_videos num_frames embed_dim"]
    video_of_text: Int[np.ndarray, " num_texts"]


@torch.no_grad()
def encode_split(
    model: XPool,
    tokenizer: Tokenizer,
    videos: pa.Table,
    *,
    num_frames: int,
    batch_size: int,
    device: torch.device,
    rank: int,
    world_size: int,
    gather_rows: GatherRows,
    on_batch: Callable[[], None] = lambda: None,
) -> SplitEmbeds:
    """Embeddings of all videos and captions, in the manifest's order, on every worker.

    Every video gives its uniformly sampled frames. The model's mode is left as it was. After each
    batch of videos on_batch is called.
    """
    was_training = model.training
    model.eval()
    bounds = [worker_bounds(len(videos), r, world_size) for r in range(world_size)]
    first, stop = bounds[rank]
    caption_counts = [len(texts) for texts in videos["captions"].to_pylist()]
    own = videos.slice(first, stop - first)
    frame_parts = []
    for i in range(0, len(own), batch_size):
        clips = load_clips(own.slice(i, batch_size), num_frames, model.image_size)
        frame_parts.append(model.encode_frames(clips.to(device)).float())
        on_batch()
    texts = [text for captions in own["captions"].to_pylist() for text in captions]
    text_parts = [
        model.encode_text(tokenizer(texts[i : i + TEXTS_AT_ONCE]).to(device)).float()
        for i in range(0, len(texts), TEXTS_AT_ONCE)
    ]
    no_text = torch.empty(0, model.embed_dim, device=device)
    no_video = torch.empty(0, num_frames, model.embed_dim, device=device)
    text_embeds = gather_rows(
        torch.cat([no_text, *text_parts]), [sum(caption_counts[a:b]) for a, b in bounds]
    )
    frame_embeds = gather_rows(torch.cat([no_video, *frame_parts]), [b - a for a, b in bounds])
    model.train(was_training)
    return SplitEmbeds(
        text_embeds=text_embeds,
        frame_embeds=frame_embeds,
        video_of_text=np.repeat(np.arange(len(videos)), caption_counts),
    )


def load_clips(videos: pa.Table, num_frames: int, image_size: int) -> Tensor:
    """Uniformly sampled frames, uint8 [num_videos, num_frames, 3, image_size, image_size]."""
    clips = []
    for row in videos.select(["frames_uri", "num_frames"]).to_pylist():
        indices = uniform_frame_indices(row["num_frames"], num_frames)
        frames = torch.from_numpy(load_frames(row["frames_uri"], indices))
        clips.append(eval_transform(frames.permute(0, 3, 1, 2), image_size))
    return torch.stack(clips)
