"""Who becomes whose copy in population-based training."""

from dataclasses import replace

import numpy as np
from test_ranking import ranking, trial

from xpool_platform.sweeps import sweep_of
from xpool_platform.tune.population import copies_of
from xpool_platform.tune.space import parse_space

CONFIG, _ = sweep_of("shapes")


def population(size: int, **values) -> list:
    return [
        replace(trial(i, float(i)), values=values or {"optim.clip_lr": 10.0**-i})
        for i in range(size)
    ]


def test_the_worst_quarter_becomes_copies_of_the_best():
    space = parse_space({"optim.clip_lr": "loguniform(1e-8, 1)"}, CONFIG)
    trials = ranking().ranked(population(8))
    copies = copies_of(trials, space, 20, np.random.default_rng(0))
    assert set(copies) == {"0", "1"}
    assert {each["source"] for each in copies.values()} <= {"sweep-006", "sweep-007"}
    assert copies == copies_of(trials, space, 20, np.random.default_rng(0))


def test_two_trials_are_one_good_and_one_bad_and_one_is_left_alone():
    space = parse_space({"optim.clip_lr": "loguniform(1e-8, 1)"}, CONFIG)
    draw = np.random.default_rng(0)
    assert set(copies_of(ranking().ranked(population(2)), space, 20, draw)) == {"0"}
    assert copies_of(ranking().ranked(population(1)), space, 20, draw) == {}


def test_a_copy_has_a_rate_beside_the_others_or_a_new_one():
    space = parse_space({"optim.clip_lr": "loguniform(1e-5, 1.1e-3)"}, CONFIG)
    trials = ranking().ranked(population(2, **{"optim.clip_lr": 1e-3}))
    found = [
        copies_of(trials, space, 20, np.random.default_rng(seed))["0"]["values"]["optim.clip_lr"]
        for seed in range(200)
    ]
    beside = [value for value in found if value in (0.8e-3, 1.1e-3)]  # 1.2e-3 is too much
    assert 100 < len(beside) < 180
    assert all(1e-5 <= value <= 1.1e-3 for value in found)


def test_a_choice_moves_to_the_next_value():
    space = parse_space({"optim.clip_lr": "choice(1e-3, 1e-5, 1e-4)"}, CONFIG)
    trials = ranking().ranked(population(2, **{"optim.clip_lr": 1e-3}))
    found = {
        copies_of(trials, space, 20, np.random.default_rng(seed))["0"]["values"]["optim.clip_lr"]
        for seed in range(50)
    }
    assert found == {1e-3, 1e-4, 1e-5}
