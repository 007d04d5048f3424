"""Which frames captions attend to, as a figure."""

import numpy as np
import pyarrow as pa
import torch
from matplotlib.figure import Figure

from xpool.pooling import Pooling
from xpool.sampling import uniform_frame_indices
from xpool.scoring import attention_weights
from xpool_platform.config import ExperimentConfig
from xpool_platform.data.kept_frames import load_frames
from xpool_platform.evaluate.encode import SplitEmbeds
from xpool_platform.tracking.figures import CaptionAttention, attention_figure


def split_attention_figure(
    pooling: Pooling, videos: pa.Table, embeds: SplitEmbeds, config: ExperimentConfig
) -> Figure:
    """eval.num_figures captions spread evenly over a split, each over its own video's frames."""
    texts = [text for captions in videos["captions"].to_pylist() for text in captions]
    spread = np.linspace(0, len(texts) - 1, config.eval.num_figures)
    chosen = np.unique(spread.round().astype(int))
    pairs = np.stack([chosen, embeds.video_of_text[chosen]], axis=1)
    weights = attention_weights(
        pooling, embeds.text_embeds, embeds.frame_embeds, torch.from_numpy(pairs)
    )
    rows = []
    for (text, video), frame_weights in zip(pairs.tolist(), weights.cpu().numpy(), strict=True):
        available = videos["num_frames"][video].as_py()
        indices = uniform_frame_indices(available, config.data.num_frames)
        frames = load_frames(videos["frames_uri"][video].as_py(), indices)
        rows.append(CaptionAttention(caption=texts[text], frames=frames, weights=frame_weights))
    return attention_figure(rows)
