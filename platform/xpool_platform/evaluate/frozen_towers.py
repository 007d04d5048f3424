"""Towers that do not learn: every stored frame and every caption is embedded once.

The embeddings are those that the towers give without the cache, up to rounding: frames are
prepared as in evaluation, and the training draws the same frames as it would.
"""

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from xpool.clip import Tokenizer
from xpool.model import XPool
from xpool.sampling import uniform_frame_indices
from xpool.transforms import eval_transform
from xpool_platform.config import ExperimentConfig
from xpool_platform.data.embedding_cache import read_embeds, write_embeds
from xpool_platform.data.kept_frames import load_frames
from xpool_platform.evaluate.encode import TEXTS_AT_ONCE, SplitEmbeds

FRAMES_AT_ONCE = 64


def towers_fingerprint(model: XPool, config: ExperimentConfig) -> str:
    """A name for the towers, their weights, what they are fed and how they compute."""
    digest = hashlib.blake2b(digest_size=8)
    how = (config.model.clip_name, config.model.clip_pretrained, config.train.use_gpu)
    what = (model.image_size, model.image_mean, model.image_std)
    digest.update(repr((*how, *what)).encode())
    for name, tensor in sorted(model.clip.state_dict().items()):
        if name != "logit_scale":
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def cache_embeds(
    model: XPool, tokenizer: Tokenizer, video: dict[str, Any], device: torch.device
) -> None:
    """Write the embeddings of a video's stored frames and of its captions."""
    frames = torch.from_numpy(load_frames(video["frames_uri"], range(video["num_frames"])))
    clip = eval_transform(frames.permute(0, 3, 1, 2), model.image_size)
    texts = video["captions"]
    with torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
        of_frames = [
            model.encode_frames(part[None].to(device))[0].float().cpu()
            for part in clip.split(FRAMES_AT_ONCE)
        ]
        of_texts = [
            model.encode_text(tokenizer(texts[i : i + TEXTS_AT_ONCE]).to(device)).float().cpu()
            for i in range(0, len(texts), TEXTS_AT_ONCE)
        ]
    write_embeds(video["frame_embeds_uri"], torch.cat(of_frames).numpy())
    write_embeds(video["text_embeds_uri"], torch.cat(of_texts).numpy())


def cached_split(videos: pa.Table, num_frames: int, device: torch.device) -> SplitEmbeds:
    """What `encode.encode_split` gives, from the cache."""
    frames = [
        read_embeds(row["frame_embeds_uri"], uniform_frame_indices(row["num_frames"], num_frames))
        for row in videos.select(["frame_embeds_uri", "num_frames"]).to_pylist()
    ]
    texts = [read_embeds(uri) for uri in videos["text_embeds_uri"].to_pylist()]
    return SplitEmbeds(
        text_embeds=torch.from_numpy(np.concatenate(texts)).to(device),
        frame_embeds=torch.from_numpy(np.stack(frames)).to(device),
        video_of_text=np.repeat(np.arange(len(videos)), [len(each) for each in texts]),
    )
