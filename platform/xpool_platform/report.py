"""How good a model is on a split: metrics, their intervals and chance beside them."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrievalReport:
    """The figures of one split. Keys of the dictionaries: `t2v/R1` to `v2t/MnR`."""

    split: str
    num_videos: int
    num_captions: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    """95 % bootstrap intervals."""

    chance: dict[str, float]
    """What a random order reaches."""
