"""Which trials are better."""

import pytest

from xpool_platform.tune.ranking import Ranking
from xpool_platform.tune.trial_record import TrialEvaluation, TrialRecord


def trial(index: int, *recalls: float, ranks: tuple[float, ...] = (), **changes) -> TrialRecord:
    """A trial with evaluations of these t2v recalls, and v2t mean ranks."""
    evaluations = [
        TrialEvaluation(
            step=10 * (i + 1),
            num_pairs=80 * (i + 1),
            metrics={"val/t2v/R1": recall, "val/v2t/MnR": ranks[i] if ranks else 1.0},
            seconds=float(i),
        )
        for i, recall in enumerate(recalls)
    ]
    return TrialRecord(
        index=index, name=f"sweep-{index:03d}", values={}, evaluations=evaluations, **changes
    )


def ranking(*metrics: str, mean_of: int = 1) -> Ranking:
    return Ranking(list(metrics or ["val/t2v/R1"]), "val/t2v/R1", mean_of)


def test_a_trial_is_worth_what_its_chosen_checkpoint_is():
    assert ranking().value(trial(0, 10, 30, 20)) == 30
    # of the means 10, 20, 25 the last is best, whatever its own recall
    chosen = ranking(mean_of=2).chosen(trial(0, 10, 30, 20))
    assert chosen is not None
    assert chosen.step == 30
    # another metric is that of the checkpoint that t2v R@1 chose
    assert ranking("val/v2t/MnR").value(trial(0, 10, 30, ranks=(2.0, 5.0))) == 5.0
    assert ranking().value(trial(0)) is None


def test_the_best_come_first_and_those_that_failed_not_at_all():
    trials = [
        trial(0, 10),
        trial(1, 30, status="FAILED"),
        trial(2),
        trial(3, 20),
        trial(4, 20),
    ]
    assert [each.index for each in ranking().ranked(trials)] == [3, 4, 0]


def test_of_ranks_less_is_better():
    trials = [trial(0, 10, ranks=(9.0,)), trial(1, 10, ranks=(3.0,))]
    assert [each.index for each in ranking("val/v2t/MnR").ranked(trials)] == [1, 0]


@pytest.mark.parametrize("mean_of", [1, 5])
def test_the_front_of_several_objectives(mean_of):
    trials = [
        trial(0, 30, ranks=(5.0,)),
        trial(1, 20, ranks=(3.0,)),
        trial(2, 20, ranks=(4.0,)),  # bettered by 1
        trial(3, 10, ranks=(2.0,)),
        trial(4, 10, ranks=(9.0,)),
    ]
    of_two = ranking("val/t2v/R1", "val/v2t/MnR", mean_of=mean_of)
    assert [each.index for each in of_two.front(trials)] == [0, 1, 3]
