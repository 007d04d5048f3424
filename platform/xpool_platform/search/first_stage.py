"""The first of two stages: candidates by their frames, from compressed vectors, with faiss.

A video can score high if one of its frame vectors has a large product with the text's probe
(`xpool.scorer.Scorer.frame_vectors`). The vectors of all frames, without their mean, are projected
onto the axes in which they vary most, rounded to 8 bits, and kept in inverted lists, of which a
search looks at the nearest. Only which videos are looked at exactly depends on it, never a score.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from xpool_platform.errors import UserError
from xpool_platform.search.index_files import PART, finish_folder

MAX_WIDTH = 128
"""Axes that are kept: 1 byte a frame and axis. Of CLIP-like embeddings they hold four fifths of the
variance; the exact stage makes good what is lost."""

TRAINED_ON = 200_000
"""Frame vectors that the axes and the lists are learnt from, at most."""

FRAMES_PER_QUERY = 2000
"""Frames that are taken as candidates of a query, at least 100 videos' at 12 frames."""

SHARE_OF_LISTS = 0.25
"""Of the lists, those that a search looks at."""

LISTS, AXES, ABOUT = "lists.faiss", "axes.safetensors", "about.json"


@dataclass(frozen=True, slots=True)
class FirstStage:
    """What was learnt: the axes, and inverted lists without anything in them."""

    name: str
    mean: Float[Tensor, " width"]
    axes: Float[Tensor, "width num_axes"]
    empty_lists: bytes
    """As faiss keeps them."""

    def empty(self) -> Any:
        """Lists of faiss to fill with the vectors of a segment."""
        return faiss.deserialize_index(np.frombuffer(self.empty_lists, np.uint8))

    def add(self, lists: Any, vectors: Float[Tensor, "num_videos num_vectors width"]) -> None:
        """Put the vectors of the next videos into the lists."""
        flat = vectors.flatten(0, 1).float()
        lists.add(((flat - self.mean) @ self.axes).numpy())

    def candidates(
        self, lists: Any, probes: Float[Tensor, "num_texts width"], num_vectors: int
    ) -> list[Int[np.ndarray, " num_candidates"]]:
        """Rows of the videos to look at for each text, rising; num_vectors: of each video."""
        lists.nprobe = max(1, round(SHARE_OF_LISTS * lists.nlist))
        count = min(FRAMES_PER_QUERY, lists.ntotal)
        _, found = lists.search((probes @ self.axes).numpy(), count)
        return [np.unique(row[row >= 0] // num_vectors) for row in found]


def learn_first_stage(sample: Float[Tensor, "num_samples width"], num_vectors: int) -> FirstStage:
    """Axes and lists for so many vectors, of a sample of them."""
    sample = sample.float()
    mean = sample.mean(dim=0)
    centred = sample - mean
    _, directions = torch.linalg.eigh(centred.T @ centred)
    axes = directions[:, -MAX_WIDTH:].contiguous()
    # about as many lists as vectors in each
    num_lists = 2 ** round(np.log2(max(1.0, num_vectors**0.5)))
    num_lists = max(1, min(num_lists, len(sample) // 40))
    index = faiss.index_factory(axes.shape[1], f"IVF{num_lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    index.train((centred @ axes).numpy())
    lists = faiss.serialize_index(index).tobytes()
    return FirstStage(name=_name(mean, axes, lists), mean=mean, axes=axes, empty_lists=lists)


def save_first_stage(folder: Path, stage: FirstStage) -> None:
    """Write a stage below its name, whole or not at all."""
    part, place = folder / f"{stage.name}{PART}", folder / stage.name
    if place.is_dir():
        return
    part.mkdir(parents=True, exist_ok=True)
    (part / LISTS).write_bytes(stage.empty_lists)
    save_file({"mean": stage.mean.numpy(), "axes": stage.axes.numpy()}, part / AXES)
    (part / ABOUT).write_text(json.dumps({"faiss": faiss.__version__}), encoding="utf-8")
    finish_folder(part, place)


def load_first_stage(folder: Path, name: str) -> FirstStage:
    """A stage by its name. Raises UserError if it is damaged."""
    try:
        tensors = load_file(folder / name / AXES)
        mean, axes = (torch.from_numpy(tensors[part]) for part in ("mean", "axes"))
        lists = (folder / name / LISTS).read_bytes()
    except (OSError, KeyError, SafetensorError) as error:
        raise UserError(f"{folder / name} cannot be read ({error}); make the index anew") from error
    if _name(mean, axes, lists) != name:
        raise UserError(f"{folder / name} is not what was written; make the index anew")
    return FirstStage(name=name, mean=mean, axes=axes, empty_lists=lists)


def save_lists(path: Path, lists: Any) -> None:
    """Write filled lists."""
    faiss.write_index(lists, str(path))


def load_lists(path: Path) -> Any:
    """Filled lists, mapped into memory."""
    return faiss.read_index(str(path), faiss.IO_FLAG_MMAP)


def set_threads(count: int) -> None:
    """How many threads a search takes."""
    faiss.omp_set_num_threads(count)


def _name(mean: Tensor, axes: Tensor, lists: bytes) -> str:
    """A name that changes with any of them."""
    digest = hashlib.blake2b(lists, digest_size=8)
    for tensor in (mean, axes):
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
