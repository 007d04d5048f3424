"""Which values the trials of a sweep get, and which trials are ended early."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler
from ray.tune.search import SearchAlgorithm, Searcher
from ray.tune.search.basic_variant import BasicVariantGenerator
from ray.tune.search.optuna import OptunaSearch

from xpool_platform.errors import UserError
from xpool_platform.sweep_config import SweepConfig
from xpool_platform.tune.distributions import (
    Choice,
    Distribution,
    Grid,
    LogUniform,
    RandInt,
    Uniform,
    Value,
)
from xpool_platform.tune.space import Space
from xpool_platform.tune.trial import PAIRS

ENDLESS = 1000


def check_search(config: SweepConfig, space: Space) -> None:
    """Raise UserError if the space is none for the search."""
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


def points(config: SweepConfig, space: Space) -> list[dict[str, Value]]:
    """The values of all trials, known before any has run: at random or of the whole grid."""
    if config.search == "grid":
        columns = [each.values for each in space.values() if isinstance(each, Choice | Grid)]
        return [dict(zip(space, row, strict=True)) for row in itertools.product(*columns)]
    draw = np.random.default_rng(config.search_seed)
    return [
        {name: _drawn(distribution, draw) for name, distribution in space.items()}
        for _ in range(config.num_trials)
    ]


def search_algorithm(
    config: SweepConfig,
    space: Space,
    *,
    metric: str,
    begun: list[dict[str, Value]],
    max_concurrent: int,
) -> tuple[Searcher | SearchAlgorithm, int]:
    """Ray Tune's search, and how many trials it makes; `begun`: values of trials that there are
    already, in order, which it gives again."""
    if config.search == "optuna":
        search = OptunaSearch(
            space=domains(space),
            metric=metric,
            mode="max",
            points_to_evaluate=begun,
            seed=config.search_seed,
        )
        limited = tune.search.ConcurrencyLimiter(search, max_concurrent=max_concurrent)
        return limited, config.num_trials
    all_points = points(config, space)
    return (
        BasicVariantGenerator(points_to_evaluate=all_points, max_concurrent=max_concurrent),
        len(all_points),
    )


def domains(space: Space) -> dict[str, Any]:
    """The space in Ray Tune's terms."""
    return {name: _of_tune(distribution) for name, distribution in space.items()}


def schedule(
    config: SweepConfig, *, metric: str, num_pairs: int, grace_pairs: int
) -> TrialScheduler:
    """What ends trials early; num_pairs: that a whole training sees, grace_pairs: that a trial
    sees in any case."""
    common: Mapping[str, Any] = {"metric": metric, "mode": "max", "time_attr": PAIRS}
    if config.scheduler == "asha":
        return ASHAScheduler(
            **common,
            max_t=ENDLESS * num_pairs,  # trials that train longer end by themselves
            grace_period=min(grace_pairs, num_pairs),
            reduction_factor=config.reduction_factor,
        )
    if config.scheduler == "median":
        return MedianStoppingRule(**common, grace_period=grace_pairs, min_samples_required=3)
    return FIFOScheduler()


def _drawn(distribution: Distribution, draw: np.random.Generator) -> Value:
    match distribution:
        case Choice(values) | Grid(values):
            return values[int(draw.integers(len(values)))]
        case Uniform(low, high):
            return float(draw.uniform(low, high))
        case LogUniform(low, high):
            drawn = math.exp(draw.uniform(math.log(low), math.log(high)))
            return float(min(max(drawn, low), high))
        case RandInt(low, high):
            return int(draw.integers(low, high + 1))


def _of_tune(distribution: Distribution) -> Any:
    match distribution:
        case Choice(values) | Grid(values):
            return tune.choice(list(values))
        case Uniform(low, high):
            return tune.uniform(low, high)
        case LogUniform(low, high):
            return tune.loguniform(low, high)
        case RandInt(low, high):
            return tune.randint(low, high + 1)
