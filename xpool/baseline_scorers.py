"""Scores by mean, top-k and softmax pooling, factorised over texts and videos."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from xpool.pooling import SoftmaxPooling, TopKPooling
from xpool.scorer import MIN_NORM, Scorer, Terms, Workspace, frame_softmax


class MeanScorer(Scorer):
    """The mean of the frames: a product of two matrices."""

    video_term_names = ("units", "shares")

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype

    def text_terms(self, text_embeds: Float[Tensor, "num_texts embed_dim"]) -> Terms:
        return Terms({"units": F.normalize(text_embeds.to(self._dtype), dim=-1)})

    def video_terms(self, frame_embeds: Float[Tensor, "num_videos num_frames embed_dim"]) -> Terms:
        frames = F.normalize(frame_embeds.to(self._dtype), dim=-1)
        shares = frames.new_full(frames.shape[:2], 1 / frames.shape[1])
        return Terms({"units": F.normalize(frames.mean(dim=1), dim=-1), "shares": shares})

    def embed_dim_of(self, videos: Terms) -> int:
        return videos.tensors["units"].shape[-1]

    def values_per_text(self, videos: Terms) -> int:
        return len(videos)

    def scores(
        self, texts: Terms, videos: Terms, work: Workspace
    ) -> Float[Tensor, "num_videos num_texts"]:
        out = work.empty("scores", len(videos), len(texts))
        return torch.mm(videos.tensors["units"], texts.tensors["units"].T, out=out)

    def frame_weights(self, texts: Terms, videos: Terms) -> Float[Tensor, "num_pairs num_frames"]:
        assert len(texts) == len(videos)
        return videos.tensors["shares"]

    def frame_vectors(self, videos: Terms) -> Float[Tensor, "num_videos 1 embed_dim"]:
        return videos.tensors["units"][:, None]

    def probes(self, texts: Terms) -> Float[Tensor, "num_texts embed_dim"]:
        return texts.tensors["units"]


class FrameWeightScorer(Scorer):
    """A weighted sum of L2-normalised frames, the weights a function of their similarities."""

    video_term_names = ("units", "forms")

    def __init__(self, pooling: TopKPooling | SoftmaxPooling, dtype: torch.dtype) -> None:
        self._pooling, self._dtype = pooling, dtype

    def text_terms(self, text_embeds: Float[Tensor, "num_texts embed_dim"]) -> Terms:
        return Terms({"units": F.normalize(text_embeds.to(self._dtype), dim=-1)})

    def video_terms(self, frame_embeds: Float[Tensor, "num_videos num_frames embed_dim"]) -> Terms:
        frames = F.normalize(frame_embeds.to(self._dtype), dim=-1)
        return Terms({"units": frames, "forms": frames @ frames.transpose(-1, -2)})

    def embed_dim_of(self, videos: Terms) -> int:
        return videos.tensors["units"].shape[-1]

    def values_per_text(self, videos: Terms) -> int:
        return 3 * len(videos) * videos.tensors["units"].shape[1]

    def scores(
        self, texts: Terms, videos: Terms, work: Workspace
    ) -> Float[Tensor, "num_videos num_texts"]:
        frames, units = videos.tensors["units"], texts.tensors["units"]
        similarity = work.empty("similarity", *frames.shape[:2], len(units))
        torch.mm(frames.flatten(0, 1), units.T, out=similarity.view(-1, len(units)))
        weights = self._weights(similarity, work)
        applied = work.empty("applied", *similarity.shape)
        torch.bmm(videos.tensors["forms"], weights, out=applied)
        norms = applied.mul_(weights).sum(dim=1).clamp_(min=0).sqrt_().clamp_(min=MIN_NORM)
        return similarity.mul_(weights).sum(dim=1) / norms

    def frame_weights(self, texts: Terms, videos: Terms) -> Float[Tensor, "num_pairs num_frames"]:
        units, frames = texts.tensors["units"], videos.tensors["units"]
        similarity = torch.einsum("pd,pfd->pf", units, frames)[:, :, None]
        weights = self._weights(similarity, Workspace(similarity.dtype, similarity.device))
        return (weights / weights.sum(dim=1, keepdim=True)).squeeze(-1)

    def frame_vectors(self, videos: Terms) -> Float[Tensor, "num_videos num_frames embed_dim"]:
        return videos.tensors["units"]

    def probes(self, texts: Terms) -> Float[Tensor, "num_texts embed_dim"]:
        return texts.tensors["units"]

    def _weights(self, similarity: Tensor, work: Workspace) -> Tensor:
        weights = work.empty("weights", *similarity.shape)
        if isinstance(self._pooling, SoftmaxPooling):
            torch.div(similarity, self._pooling.temperature, out=weights)
            frame_softmax(weights[:, None], weights[:, None], work)
            return weights
        k = min(self._pooling.k, similarity.shape[1])
        chosen = similarity.topk(k, dim=1, sorted=False).indices
        return weights.zero_().scatter_(1, chosen, 1.0)
