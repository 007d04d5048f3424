"""How much each field mattered, among the trials that there were."""

from collections.abc import Sequence

import optuna

from xpool_platform.tune.search import of_optuna
from xpool_platform.tune.space import Space
from xpool_platform.tune.trial_record import TrialRecord

MIN_TRIALS = 4


def importances(scored: Sequence[tuple[TrialRecord, float]], space: Space) -> dict[str, float]:
    """Shares by field, which sum to one (PED-ANOVA: Watanabe et al., 2023); empty where there are
    fewer than four trials, or nothing differs. The greater a score, the better."""
    if len(scored) < MIN_TRIALS or len({score for _, score in scored}) < 2:
        return {}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize")
    distributions = {name: of_optuna(distribution) for name, distribution in space.items()}
    for record, score in scored:
        study.add_trial(
            optuna.trial.create_trial(
                params=dict(record.values), distributions=distributions, value=score
            )
        )
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
