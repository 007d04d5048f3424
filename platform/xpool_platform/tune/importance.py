"""How much each field mattered, among the trials that there were."""

from collections.abc import Sequence

import optuna

from xpool_platform.tune.distributions import Choice, Distribution, Grid, LogUniform, RandInt
from xpool_platform.tune.space import Space
from xpool_platform.tune.trial_record import TrialRecord

MIN_TRIALS = 4


def importances(records: Sequence[TrialRecord], space: Space, metric: str) -> dict[str, float]:
    """Shares by field, which sum to one (PED-ANOVA: Watanabe et al., 2023); empty where there are
    fewer than four trials, or nothing differs."""
    scored = [(each, score) for each in records if (score := each.best(metric)) is not None]
    if len(scored) < MIN_TRIALS or len({score for _, score in scored}) < 2:
        return {}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize")
    distributions = {name: _of_optuna(distribution) for name, distribution in space.items()}
    for record, score in scored:
        study.add_trial(
            optuna.trial.create_trial(
                params=dict(record.values), distributions=distributions, value=score
            )
        )
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def _of_optuna(distribution: Distribution) -> optuna.distributions.BaseDistribution:
    match distribution:
        case Choice(values) | Grid(values):
            return optuna.distributions.CategoricalDistribution(values)
        case RandInt(low, high):
            return optuna.distributions.IntDistribution(low, high)
        case LogUniform(low, high):
            return optuna.distributions.FloatDistribution(low, high, log=True)
        case _:
            return optuna.distributions.FloatDistribution(distribution.low, distribution.high)
