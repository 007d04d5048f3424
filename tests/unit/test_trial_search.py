"""Which values the trials of a sweep get: by the seed, and again after an interruption."""

from dataclasses import replace

import pytest
from ray.tune.search import Searcher
from test_ranking import trial

from xpool_platform.errors import UserError
from xpool_platform.sweep_config import SweepConfig
from xpool_platform.sweeps import sweep_of
from xpool_platform.tune.ranking import Ranking
from xpool_platform.tune.search import TrialSearch, check_search
from xpool_platform.tune.space import parse_space
from xpool_platform.tune.trial_record import TrialRecords

TEXTS = {
    "loss.temperature": "loguniform(0.01, 0.2)",
    "data.num_frames": "choice(4, 8, 12)",
    "model.dropout": "uniform(0, 0.5)",
    "train.seed": "randint(1, 9)",
}
GRID = {"optim.clip_lr": "grid(1e-4, 1e-3)", "data.num_frames": "grid(4, 8, 12)"}


def sweep_config(**changes) -> SweepConfig:
    return replace(sweep_of("shapes")[0], **changes)


def suggested(config: SweepConfig, records: TrialRecords, texts=None, count: int = 100) -> list:
    """The values of all trials; each is told to have a recall that hangs on its temperature."""
    space = parse_space(texts or TEXTS, config)
    search = TrialSearch(config, space, Ranking.of(config), records)
    found = []
    for i in range(count):
        values = search.suggest(f"trial {i}")
        if values == Searcher.FINISHED:
            break
        assert values.pop("trial") == i
        found.append(values)
        recall = 100 * float(values.get("loss.temperature", 0))
        done = replace(trial(i, recall), values=values, status="FINISHED")
        records.write(done)
        search.on_trial_complete(f"trial {i}", {}, error=False)
    return found


@pytest.fixture
def empty(tmp_path):
    def make(name: str) -> TrialRecords:
        (tmp_path / name).mkdir()
        return TrialRecords(tmp_path / name)

    return make


@pytest.mark.parametrize("search", ["random", "optuna"])
def test_the_seed_decides(search, empty):
    config = sweep_config(search=search, num_trials=14)
    first = suggested(config, empty("a"))
    assert len(first) == 14
    assert len({str(values) for values in first}) == 14
    assert suggested(config, empty("b")) == first
    assert suggested(replace(config, search_seed=1), empty("c")) != first


@pytest.mark.parametrize("search", ["random", "optuna"])
@pytest.mark.parametrize("done", [1, 5, 12])
def test_an_interrupted_sweep_gets_the_same_trials(search, done, empty):
    config = sweep_config(search=search, num_trials=14)
    whole = suggested(config, empty("whole"))
    records = empty("interrupted")
    assert suggested(config, records, count=done) == whole[:done]
    assert suggested(config, records) == whole


def test_optuna_comes_nearer_to_what_is_good(empty):
    config = sweep_config(search="optuna", num_trials=40)
    values = [each["loss.temperature"] for each in suggested(config, empty("a"))]
    assert sorted(values[25:])[7] > 2 * sorted(values[:10])[5]


def test_optuna_takes_several_objectives_and_failures(empty):
    config = sweep_config(search="optuna", num_trials=3, objectives="t2v/R1, v2t/MnR")
    records = empty("a")
    search = TrialSearch(config, parse_space(TEXTS, config), Ranking.of(config), records)
    for i in range(3):
        values = search.suggest(str(i))
        records.write(replace(trial(i, 3.0 + i), values=values))
        search.on_trial_complete(str(i), {}, error=i == 1)
    assert search.suggest("3") == Searcher.FINISHED


def test_a_grid_has_all_of_its_points_once(empty):
    points = suggested(sweep_config(search="grid"), empty("a"), GRID)
    assert len(points) == 6
    assert {(each["optim.clip_lr"], each["data.num_frames"]) for each in points} == {
        (rate, frames) for rate in (1e-4, 1e-3) for frames in (4, 8, 12)
    }


@pytest.mark.parametrize(
    ("changes", "texts", "words"),
    [
        ({"search": "grid"}, TEXTS, "search grid takes all that there is"),
        ({"search": "random"}, GRID, "is for --search grid"),
        ({"scheduler": "pbt"}, TEXTS, "loss.temperature cannot change"),
        (
            {"scheduler": "pbt", "search": "optuna"},
            {"optim.clip_lr": "uniform(0, 1)"},
            "chooses values itself",
        ),
    ],
)
def test_a_space_that_the_search_does_not_take(changes, texts, words):
    config = sweep_config(**changes)
    with pytest.raises(UserError, match=words):
        check_search(config, parse_space(texts, config))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objectives": "t2v/R2"}, "'t2v/R2' is none of t2v/R1, t2v/R5"),
        ({"objectives": " "}, "should name metrics"),
        ({"objectives": "t2v/R1,t2v/R1"}, "each once"),
        ({"num_trials": 0}, "num_trials must be at least 1"),
        ({"max_concurrent": 0}, "max_concurrent must be at least 1"),
        ({"max_failed_trials": -1}, "max_failed_trials must be at least 0"),
        ({"reduction_factor": 1.0}, "reduction_factor must be above 1"),
        ({"pbt_rounds": 0}, "pbt_rounds must be at least 1"),
    ],
)
def test_a_sweep_that_cannot_be(changes, words):
    with pytest.raises(ValueError, match=words):
        sweep_config(**changes)
