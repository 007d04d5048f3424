"""A sweep over an experiment."""

from dataclasses import dataclass
from typing import Literal

from xpool_platform.config import ExperimentConfig

RECALLS = "R1", "R5", "R10", "R50"
RANKS = "MdR", "MnR"
"""Median and mean rank: the lower the better."""

METRICS = tuple(f"{way}/{name}" for way in ("t2v", "v2t") for name in (*RECALLS, *RANKS))


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepConfig(ExperimentConfig):
    """An experiment of which some fields are varied."""

    num_trials: int = 8
    """Trainings; of a grid all that it has."""

    search: Literal["random", "grid", "optuna"] = "random"
    """How values are chosen: at random, all of a grid, or by Optuna from the trials before."""

    objectives: str = "t2v/R1"
    """Metrics on train.select_on that decide, as "t2v/R1, v2t/MnR"; of several the first ranks."""

    scheduler: Literal["asha", "median", "pbt", "none"] = "asha"
    """ASHA or the median rule end trials early; pbt changes learning rates on the way."""

    grace_evals: int = 1
    """Evaluations before which no trial is ended."""

    reduction_factor: float = 3.0
    """ASHA lets one of so many trials go on, at each of its rungs."""

    pbt_rounds: int = 5
    """Parts of a training after which pbt copies the best trials over the worst."""

    max_concurrent: int | None = None
    """Trials at once; empty: as many as the cluster has room for."""

    max_failed_trials: int = 3
    """The sweep ends when more trials than this have failed."""

    search_seed: int = 0
    """Seed of the choice of values; that of the trainings is train.seed."""

    space_file: str = ""
    """A YAML file with the fields to vary; --space.FIELD adds to it and changes it."""

    register: str = ""
    """Name under which MLflow's model registry gets the best model; empty: it does not."""

    resume: str = ""
    """Name of a sweep that was interrupted, to go on with."""

    @property
    def metrics(self) -> list[str]:
        """The objectives as trials report them: `val/t2v/R1`."""
        return [f"{self.train.select_on}/{name}" for name in _names(self.objectives)]

    def __post_init__(self) -> None:
        names = _names(self.objectives)
        for name in names:
            if name not in METRICS:
                raise ValueError(f"objectives: {name!r} is none of {', '.join(METRICS)}")
        if not names or len(set(names)) < len(names):
            raise ValueError(f"objectives {self.objectives!r} should name metrics, each once")
        for name in ("num_trials", "grace_evals", "pbt_rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.max_concurrent is not None and self.max_concurrent < 1:
            raise ValueError(f"max_concurrent must be at least 1, not {self.max_concurrent}")
        if self.max_failed_trials < 0:
            raise ValueError(f"max_failed_trials must be at least 0, not {self.max_failed_trials}")
        if not self.reduction_factor > 1:
            raise ValueError(f"reduction_factor must be above 1, not {self.reduction_factor}")


def is_rank(metric: str) -> bool:
    """Whether less is better, as of median and mean ranks."""
    return metric.rsplit("/", 1)[-1] in RANKS


def _names(objectives: str) -> list[str]:
    return [name.strip() for name in objectives.split(",") if name.strip()]
