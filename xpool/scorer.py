"""What scores are made of: terms of the texts, terms of the videos, and a step for each pair.

In evaluation the pooled embedding of a (text, video) pair is linear in the attention weights up to
its norms, and the norms are quadratic forms in the weights. So everything of width embed_dim moves
to the text or to the video, and a pair costs two products of width num_frames * embed_dim instead
of projections of width embed_dim ** 2. The result is that of pooling and cosine, exactly; the
derivation is in docs/how_it_works.md.

Weights are laid out [num_videos, num_heads * num_frames, num_texts]: texts last, so that every
elementwise step runs over contiguous memory.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

MIN_NORM = 1e-12
"""As in torch's normalize: a shorter vector is not made longer."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a score needs of each text, or of each video: tensors that share their first axis."""

    tensors: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, rows: slice | Tensor) -> "Terms":
        return Terms({name: tensor[rows] for name, tensor in self.tensors.items()})

    def to(self, dtype: torch.dtype, device: torch.device | None = None) -> "Terms":
        """The same in another precision, such as float16 to keep, or on another device."""
        return Terms({n: tensor.to(device, dtype) for n, tensor in self.tensors.items()})

    @property
    def dtype(self) -> torch.dtype:
        """The precision of all tensors."""
        return next(iter(self.tensors.values())).dtype

    @property
    def values_per_row(self) -> int:
        """Numbers that are kept of each text, or of each video."""
        return sum(tensor[0].numel() for tensor in self.tensors.values())


@dataclass(slots=True)
class Workspace:
    """Buffers that the tiles of a score matrix reuse.

    Fresh memory for each tile would cost more in page faults than the arithmetic takes.
    """

    dtype: torch.dtype
    device: torch.device
    _buffers: dict[str, Tensor] = field(default_factory=dict)

    def converted(self, terms: Terms) -> Terms:
        """Terms in this precision and on this device; copied only where they are not."""
        if terms.dtype == self.dtype:
            return terms.to(self.dtype, self.device)
        return Terms(
            {
                name: self.empty(f"terms {name}", *tensor.shape).copy_(tensor)
                for name, tensor in terms.tensors.items()
            }
        )

    def empty(self, name: str, *shape: int) -> Tensor:
        """An uninitialised tensor; the next of this name takes its memory."""
        size = torch.Size(shape).numel()
        if name not in self._buffers or self._buffers[name].numel() < size:
            self._buffers[name] = torch.empty(size, dtype=self.dtype, device=self.device)
        return self._buffers[name][:size].view(shape)


class Scorer(ABC):
    """Scores by a pooling, its parameters taken in `dtype`."""

    @abstractmethod
    def text_terms(self, text_embeds: Float[Tensor, "num_texts embed_dim"]) -> Terms:
        """What scoring needs of each text."""

    @abstractmethod
    def video_terms(self, frame_embeds: Float[Tensor, "num_videos num_frames embed_dim"]) -> Terms:
        """What scoring needs of each video."""

    video_term_names: tuple[str, ...]
    """What `video_terms` gives."""

    @abstractmethod
    def embed_dim_of(self, videos: Terms) -> int:
        """Width of the embeddings that these terms were made of."""

    @abstractmethod
    def values_per_text(self, videos: Terms) -> int:
        """Numbers that `scores` with these videos holds of each text, in all its buffers."""

    @abstractmethod
    def scores(
        self, texts: Terms, videos: Terms, work: Workspace
    ) -> Float[Tensor, "num_videos num_texts"]:
        """The score of every pair."""

    @abstractmethod
    def frame_weights(self, texts: Terms, videos: Terms) -> Float[Tensor, "num_pairs num_frames"]:
        """The share of each frame in what text i takes of video i; the mean over heads."""

    @abstractmethod
    def frame_vectors(self, videos: Terms) -> Float[Tensor, "num_videos num_vectors width"]:
        """What a first, coarse search compares of each video: a video one of whose vectors has a
        large product with a text's probe can have a high score, and others hardly."""

    @abstractmethod
    def probes(self, texts: Terms) -> Float[Tensor, "num_texts width"]:
        """What a first, coarse search compares of each text with the `frame_vectors`."""


def frame_softmax(logits: Tensor, out: Tensor, work: Workspace) -> None:
    """Softmax over the frames of [num_videos, num_heads, num_frames, num_texts]."""
    shape = (*logits.shape[:2], 1, logits.shape[3])
    torch.amax(logits, dim=2, keepdim=True, out=(extreme := work.empty("extreme", *shape)))
    torch.sub(logits, extreme, out=out).exp_()
    torch.sum(out, dim=2, keepdim=True, out=extreme)
    out.mul_(extreme.reciprocal_())
