"""Which frames captions attend to, for figures."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from xpool.pooling import Pooling
from xpool.sampling import uniform_frame_indices
from xpool.scoring import attention_weights
from xpool_platform.data.frame_cache import read_frames
from xpool_platform.evaluate.encode import SplitEmbeds
from xpool_platform.tracking.figures import CaptionAttention


def caption_attention(
    pooling: Pooling, videos: pa.Table, embeds: SplitEmbeds, *, num_captions: int, num_frames: int
) -> list[CaptionAttention]:
    """Captions spread evenly over a split, each with the frames of its own video."""
    texts = [text for captions in videos["captions"].to_pylist() for text in captions]
    chosen = np.unique(np.linspace(0, len(texts) - 1, num_captions).round().astype(int))
    pairs = np.stack([chosen, embeds.video_of_text[chosen]], axis=1)
    weights = attention_weights(
        pooling, embeds.text_embeds, embeds.frame_embeds, torch.from_numpy(pairs)
    )
    rows = []
    for (text, video), frame_weights in zip(pairs.tolist(), weights.cpu().numpy(), strict=True):
        indices = uniform_frame_indices(videos["num_frames"][video].as_py(), num_frames)
        frames = read_frames(Path(videos["frames_path"][video].as_py()), indices)
        rows.append(CaptionAttention(caption=texts[text], frames=frames, weights=frame_weights))
    return rows
