"""Which values the trials of a sweep get, and which trials are ended early."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler
from ray.tune.search import Searcher

from xpool_platform.errors import UserError
from xpool_platform.sweep_config import SweepConfig, is_rank
from xpool_platform.tune.distributions import (
    Choice,
    Distribution,
    Grid,
    LogUniform,
    RandInt,
    Uniform,
    Value,
)
from xpool_platform.tune.ranking import Ranking
from xpool_platform.tune.space import Space
from xpool_platform.tune.trial import INDEX, PAIRS
from xpool_platform.tune.trial_record import TrialRecords

ENDLESS = 1000
RATES = "optim.clip_lr", "optim.pooling_lr"
"""What population-based training changes on the way."""

MIN_FOR_MEDIAN = 3
"""Trials that the median rule compares with at least."""


def check_search(config: SweepConfig, space: Space) -> None:
    """Raise UserError if the space is none for the search, or for what changes on the way."""
    for name, distribution in space.items():
        drawn = not isinstance(distribution, Choice | Grid)
        if config.search == "grid" and drawn:
            raise UserError(
                f"space.{name} {distribution} has no end, and search grid takes all that there is; "
                "write grid(...), or set --search random"
            )
        if config.search != "grid" and isinstance(distribution, Grid):
            raise UserError(
                f"space.{name} {distribution} is for --search grid; set that, or write choice(...)"
            )

    if config.scheduler == "pbt":
        fixed = [name for name in space if name not in RATES]
        if fixed:
            raise UserError(
                f"scheduler pbt changes learning rates while trials train, and {fixed[0]} cannot "
                f"change; vary {' and '.join(RATES)} alone, or set --scheduler asha"
            )
        if config.search == "optuna":
            raise UserError("scheduler pbt chooses values itself; set --search random")


def num_trials_of(config: SweepConfig, space: Space) -> int:
    """How many trials there will be; of a grid all that it has."""
    return len(_points(config, space)) if config.search == "grid" else config.num_trials


class TrialSearch(Searcher):
    """Gives Ray Tune the values of one trial after the other, each with its index.

    The same seed gives the same values; Optuna's also hang on which trials had ended by then.
    Trials of which there is a record get their values again, so that a sweep goes on as it was.
    """

    def __init__(
        self, config: SweepConfig, space: Space, ranking: Ranking, records: TrialRecords
    ) -> None:
        modes = ["min" if is_rank(name) else "max" for name in ranking.metrics]
        super().__init__(metric=ranking.metric, mode=modes[0])
        self._config, self._ranking, self._records = config, ranking, records
        self._index_of: dict[str, int] = {}
        self._num_trials = num_trials_of(config, space)
        self._asked: _Optuna | None = None
        self._points: list[dict[str, Value]] = []
        if config.search == "optuna":
            self._asked = _Optuna(config, space, modes)
        else:
            self._points = _points(config, space)

    def suggest(self, trial_id: str) -> Any:
        """The values of the next trial."""
        index = len(self._index_of)
        if index >= self._num_trials:
            return Searcher.FINISHED
        self._index_of[trial_id] = index
        record = self._records.read(index)
        known = record.values if record is not None else None
        if self._asked is not None:
            values = self._asked.ask(index, known)
        else:
            values = known or self._points[index]
        return {INDEX: index, **values}

    def on_trial_complete(
        self,
        trial_id: str,
        result: dict[str, Any] | None = None,  # noqa: ARG002  # of the last evaluation alone
        error: bool = False,
    ) -> None:
        """Tell Optuna how good a trial was: by the checkpoint that it chose."""
        record = self._records.read(self._index_of[trial_id])
        if self._asked is None:
            return
        scores = None
        if record is not None and record.evaluations and not error:
            found = [self._ranking.value(record, name) for name in self._ranking.metrics]
            scores = [score for score in found if score is not None]
        self._asked.tell(self._index_of[trial_id], scores)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the records are all that a sweep goes on from."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, likewise."""


class _Optuna:
    """TPE (Watanabe, 2023) over one objective or several."""

    def __init__(self, config: SweepConfig, space: Space, modes: list[str]) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._seed = config.search_seed
        self._distributions = {name: of_optuna(each) for name, each in space.items()}
        directions = ["minimize" if mode == "min" else "maximize" for mode in modes]
        self._study = optuna.create_study(directions=directions)
        self._trials: dict[int, optuna.Trial] = {}

    def ask(self, index: int, known: dict[str, Value] | None) -> dict[str, Value]:
        """The values of a trial, those that it has already if it has."""
        if known is not None:
            self._study.enqueue_trial(known)
        # each trial with random numbers of its own, so that those before it do not matter
        seed = int(np.random.default_rng([self._seed, index]).integers(2**31))
        self._study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        trial = self._study.ask(fixed_distributions=self._distributions)
        self._trials[index] = trial
        return dict(trial.params)

    def tell(self, index: int, scores: list[float] | None) -> None:
        """How good it was; None: it failed."""
        failed = optuna.trial.TrialState.FAIL if scores is None else None
        self._study.tell(self._trials[index], scores, state=failed)


def schedule(
    config: SweepConfig, *, metric: str, num_pairs: int, grace_pairs: int
) -> TrialScheduler:
    """What ends trials early; num_pairs: that a whole training sees, grace_pairs: that a trial
    sees in any case."""
    mode = "min" if is_rank(metric) else "max"
    common: Mapping[str, Any] = {"metric": metric, "mode": mode, "time_attr": PAIRS}
    if config.scheduler == "asha":
        return ASHAScheduler(
            **common,
            max_t=ENDLESS * num_pairs,  # trials that train longer end by themselves
            grace_period=min(grace_pairs, num_pairs),
            reduction_factor=config.reduction_factor,
        )
    if config.scheduler == "median":
        return MedianStoppingRule(
            **common, grace_period=grace_pairs, min_samples_required=MIN_FOR_MEDIAN
        )
    return FIFOScheduler()


def of_optuna(distribution: Distribution) -> optuna.distributions.BaseDistribution:
    """A distribution in Optuna's terms."""
    match distribution:
        case Choice(values) | Grid(values):
            return optuna.distributions.CategoricalDistribution(values)
        case RandInt(low, high):
            return optuna.distributions.IntDistribution(low, high)
        case LogUniform(low, high):
            return optuna.distributions.FloatDistribution(low, high, log=True)
        case _:
            return optuna.distributions.FloatDistribution(distribution.low, distribution.high)


def drawn(distribution: Distribution, draw: np.random.Generator) -> Value:
    """A value at random."""
    match distribution:
        case Choice(values) | Grid(values):
            return values[int(draw.integers(len(values)))]
        case Uniform(low, high):
            return float(draw.uniform(low, high))
        case LogUniform(low, high):
            value = math.exp(draw.uniform(math.log(low), math.log(high)))
            return float(min(max(value, low), high))
        case RandInt(low, high):
            return int(draw.integers(low, high + 1))


def _points(config: SweepConfig, space: Space) -> list[dict[str, Value]]:
    """The values of all trials, known before any has run: at random or of the whole grid."""
    if config.search == "grid":
        columns = [each.values for each in space.values() if isinstance(each, Choice | Grid)]
        return [dict(zip(space, row, strict=True)) for row in itertools.product(*columns)]
    draw = np.random.default_rng(config.search_seed)
    return [
        {name: drawn(distribution, draw) for name, distribution in space.items()}
        for _ in range(config.num_trials)
    ]
