"""A sweep over an experiment."""

from dataclasses import dataclass
from typing import Literal

from xpool_platform.config import ExperimentConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepConfig(ExperimentConfig):
    """An experiment of which some fields are varied."""

    num_trials: int = 8
    """Trainings; of a grid all that it has."""

    search: Literal["random", "grid", "optuna"] = "random"
    """How values are chosen: at random, all of a grid, or by Optuna from the trials before."""

    scheduler: Literal["asha", "median", "none"] = "asha"
    """What ends trials early, by t2v R@1 on train.select_on: ASHA, the others' median, nothing."""

    grace_evals: int = 1
    """Evaluations before which no trial is ended."""

    reduction_factor: float = 3.0
    """ASHA lets one of so many trials go on, at each of its rungs."""

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

    def __post_init__(self) -> None:
        for name in ("num_trials", "grace_evals"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.max_concurrent is not None and self.max_concurrent < 1:
            raise ValueError(f"max_concurrent must be at least 1, not {self.max_concurrent}")
        if self.max_failed_trials < 0:
            raise ValueError(f"max_failed_trials must be at least 0, not {self.max_failed_trials}")
        if not self.reduction_factor > 1:
            raise ValueError(f"reduction_factor must be above 1, not {self.reduction_factor}")
