"""How good a model is on a split: metrics, their intervals and chance beside them."""

from dataclasses import dataclass

DIRECTIONS = {"t2v": "text to video", "v2t": "video to text"}
METHODS = {"dual_softmax": "dual softmax", "qb_norm": "QB-Norm"}
TITLES = {"R1": "R@1", "R5": "R@5", "R10": "R@10", "R50": "R@50", "MdR": "MdR", "MnR": "MnR"}
"""How directions, after-processing and metrics are called where people read them."""


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

    processed_metrics: dict[str, float]
    """The same after dual softmax and QB-Norm, as `dual_softmax/t2v/R1` and `qb_norm/t2v/R1`."""

    processed_intervals: dict[str, tuple[float, float]]
    """Their 95 % bootstrap intervals."""

    selected_on: str = ""
    """The split on which the checkpoint was chosen; empty: not known, or none was."""

    num_missing: int = 0
    """Videos of the split that could not be decoded and are not in these figures."""

    def flat_metrics(self) -> dict[str, float]:
        """All of them with the ends of their intervals, as `KEY`, `KEY_low`, `KEY_high`."""
        flat = self.metrics | self.processed_metrics
        for key, (low, high) in (self.intervals | self.processed_intervals).items():
            flat |= {f"{key}_low": low, f"{key}_high": high}
        return flat

    def recalls(self) -> str:
        """R@1 of both directions with intervals, in a line."""
        return ", ".join(
            f"{way} R@1 {self.metrics[f'{way}/R1']:.1f} ({low:.1f}–{high:.1f})"
            for way in ("t2v", "v2t")
            for low, high in (self.intervals[f"{way}/R1"],)
        )
