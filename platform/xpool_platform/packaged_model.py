"""A trained model away from its training: texts and video files in, scores out.

MLflow loads a model by this module, from the copies of it and of what it imports that lie in the
model's folder; neither Ray nor the rest of this project needs to be there.
"""

import os
import threading
from collections.abc import Iterable
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import pandas as pd
import simplejpeg
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from xpool.clip import build_tokenizer
from xpool.sampling import uniform_frame_indices
from xpool.scoring import score_matrix
from xpool.transforms import eval_transform
from xpool_platform.checkpoint import load_checkpoint
from xpool_platform.data.decode_guard import DecodeGuard
from xpool_platform.data.video import FrameSettings, VideoError
from xpool_platform.errors import UserError
from xpool_platform.locations import is_uri, local_file

TEXTS_AT_ONCE = 256

STORES = ("s3", "gs")
"""Object stores of which videos are read, by the schemes of their URIs."""


class PackagedModel:
    """A checkpoint's model, and the decoding of its training in a child process.

    Frames, transforms and precision are those of an evaluation on the same kind of device.
    """

    def __init__(self, checkpoint: str, device: torch.device) -> None:
        model, self._config, _ = load_checkpoint(checkpoint)
        self._model = model.to(device)
        self._device = device
        self._tokenizer = build_tokenizer(self._config.model)
        data = self._config.data
        self._guard = DecodeGuard(data.decode_deadline_s, data.decode_memory_bytes)
        self._busy = threading.Lock()  # a server predicts in threads, and the child decodes for one

    @torch.no_grad()
    def predict(self, model_input: pd.DataFrame) -> pd.DataFrame:
        """The `scores` [num_texts, num_videos] of each row's `texts` with its `videos`.

        Videos are paths or URIs (file://, s3://, gs://) of video files. A text or video of several
        rows is encoded once. Raises UserError for a row without texts or videos, and for a video
        that cannot be decoded.
        """
        columns = model_input["texts"], model_input["videos"]
        rows = [(list(texts), list(videos)) for texts, videos in zip(*columns, strict=True)]
        for texts, videos in rows:
            _check("texts", texts)
            _check("videos", videos)
        row_of_text = _numbered(text for texts, _ in rows for text in texts)
        row_of_video = _numbered(video for _, videos in rows for video in videos)
        with self._busy:
            text_embeds = self._text_embeds(list(row_of_text))
            frame_embeds = self._frame_embeds(list(row_of_video))
            scores = [
                score_matrix(
                    self._model.pooling,
                    text_embeds[[row_of_text[text] for text in texts]],
                    frame_embeds[[row_of_video[video] for video in videos]],
                ).tolist()
                for texts, videos in rows
            ]
        return pd.DataFrame({"scores": scores})

    def _text_embeds(self, texts: list[str]) -> Float[Tensor, "num_texts embed_dim"]:
        parts = []
        for i in range(0, len(texts), TEXTS_AT_ONCE):
            tokens = self._tokenizer(texts[i : i + TEXTS_AT_ONCE]).to(self._device)
            with self._autocast():
                parts.append(self._model.encode_text(tokens).float())
        return torch.cat(parts)

    def _frame_embeds(self, videos: list[str]) -> Float[Tensor, "num_videos num_frames embed_dim"]:
        size = self._config.eval.batch_size
        parts = []
        for i in range(0, len(videos), size):
            clips = torch.stack([self._clip(video) for video in videos[i : i + size]])
            with self._autocast():
                parts.append(self._model.encode_frames(clips.to(self._device)).float())
        return torch.cat(parts)

    def _clip(self, video: str) -> UInt8[Tensor, "num_frames 3 image_size image_size"]:
        try:
            with local_file(_location(video)) as path:
                frames = self._decoded(path)
        except VideoError as error:
            raise UserError(f"video {video!r} cannot be decoded ({error}); leave it out") from error
        except BaseException:  # interrupted: what the child still sends is of no later video
            self._guard.close()
            raise
        return eval_transform(torch.from_numpy(frames).permute(0, 3, 1, 2), self._model.image_size)

    def _decoded(self, path: str) -> UInt8[np.ndarray, "num_frames height width 3"]:
        """The frames that the model sees, after JPEG where the training's frames were kept so."""
        data = self._config.data
        settings = FrameSettings.of(data)
        if data.cache == "none":
            frames = self._guard.decode(path, settings).frames
            return frames[uniform_frame_indices(len(frames), data.num_frames)]
        jpegs = self._guard.encode(path, settings).jpegs
        indices = uniform_frame_indices(len(jpegs), data.num_frames)
        return np.stack([simplejpeg.decode_jpeg(jpegs[index]) for index in indices])

    def _autocast(self) -> torch.autocast:
        return torch.autocast("cuda", torch.bfloat16, enabled=self._device.type == "cuda")


def _load_pyfunc(data_path: str, model_config: dict[str, str] | None = None) -> PackagedModel:
    """What MLflow calls. Raises DamagedCheckpointError if a file is not as it was written."""
    name = (model_config or {}).get("device", "cpu")
    try:
        device = torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"model_config asks for device {name!r}, and torch cannot use it ({reason}); leave it "
            "out to use the CPU"
        ) from error
    return PackagedModel(data_path, device)


def _check(name: str, values: list[object]) -> None:
    if not values:
        raise UserError(f"{name} is empty; give one string or more")
    for value in values:
        if not isinstance(value, str):
            raise UserError(f"{name} must hold strings, not {value!r}")


def _numbered(names: Iterable[str]) -> dict[str, int]:
    """Each name once, in order, with its number."""
    return {name: i for i, name in enumerate(dict.fromkeys(names))}


def _location(video: str) -> str:
    if not is_uri(video):
        return os.path.abspath(video)
    parts = urlsplit(video)
    if parts.scheme in STORES:
        return video
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise UserError(
            f"video {video!r} is no file that is read here; give a path, or a URI that begins with "
            "file://, s3:// or gs://"
        )
    return url2pathname(parts.path)
