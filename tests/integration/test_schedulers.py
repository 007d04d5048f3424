"""What ends trials early, on the recorded evaluations of a grid that was trained to its end.

The records are those of `tests/benchmarks/bench_sweep.py`, which trains both sweeps.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from ray import tune
from ray.tune.search import ConcurrencyLimiter

from xpool_platform.config import ExperimentConfig
from xpool_platform.config_io import as_kind
from xpool_platform.data.decode import DecodedManifest
from xpool_platform.runtime import ray_session
from xpool_platform.sweep_config import SweepConfig
from xpool_platform.sweeps import sweep_of
from xpool_platform.tune.ranking import Ranking
from xpool_platform.tune.search import TrialSearch, schedule
from xpool_platform.tune.space import parse_space
from xpool_platform.tune.trial import INDEX, PAIRS, Sweep, trainable
from xpool_platform.tune.trial_record import TrialRecords
from xpool_platform.tune.trials import TUNE_ENVIRONMENT

RECORDED = Path(__file__).parents[1] / "data" / "sweep_of_a_grid"
SPACE = {
    "optim.clip_lr": "grid(1e-5, 1e-4, 1e-3, 1e-2)",
    "loss.temperature": "grid(0.02, 0.07, 0.2)",
}
BATCH_SIZE = 16

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def session():
    patch = pytest.MonkeyPatch()
    for name, value in TUNE_ENVIRONMENT.items():
        patch.setenv(name, value)
    with ray_session():
        yield
    patch.undo()


def sweep_config(scheduler: str) -> SweepConfig:
    return replace(sweep_of("shapes")[0], search="grid", scheduler=scheduler)


def steps_and_best(scheduler: str, folder: Path, at_once: int) -> tuple[int, int]:
    """Steps that the sweep needs, and the index of the best of what it has seen."""
    records = folder / "trials"
    shutil.copytree(RECORDED, records)
    config = sweep_config(scheduler)
    sweep = Sweep(
        name="recorded",
        config=as_kind(config, ExperimentConfig),
        decoded=DecodedManifest(videos=pa.table({}), bad=[], num_decoded=0),
        batch_size=BATCH_SIZE,
        num_missing=0,
        records=str(records),
        runs=str(folder / "runs"),
        tracking_uri="",
        tracking_experiment="",
        artifacts="",
        parent_run_id="",
        began_s=0.0,
    )
    ranking, known = Ranking.of(config), TrialRecords(records)
    search = TrialSearch(config, parse_space(SPACE, config), ranking, known)
    whole, first = (known.all()[0].evaluations[i].num_pairs for i in (-1, 0))
    rule = schedule(config, metric=ranking.metric, num_pairs=whole, grace_pairs=first)
    results = tune.Tuner(
        trainable(sweep),
        tune_config=tune.TuneConfig(
            search_alg=ConcurrencyLimiter(search, at_once),
            scheduler=rule,
            num_samples=-1,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(storage_path=str(folder), verbose=0),
    ).fit()
    assert not results.errors
    seen = {result.config[INDEX]: result.metrics[PAIRS] for result in results}
    assert len(seen) == 12
    steps = sum(pairs // BATCH_SIZE for pairs in seen.values())
    cut = [
        replace(
            record,
            evaluations=[each for each in record.evaluations if each.num_pairs <= seen[i]],
        )
        for i, record in enumerate(known.all())
    ]
    return steps, ranking.ranked(cut)[0].index


@pytest.mark.parametrize("at_once", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_asha_finds_the_best_of_a_grid_in_half_of_its_steps(at_once, tmp_path):
    grid, best = steps_and_best("none", tmp_path / "grid", at_once)
    asha, found = steps_and_best("asha", tmp_path / "asha", at_once)
    assert found == best
    assert asha <= grid / 2


@pytest.mark.slow
def test_the_median_rule_finds_it_in_fewer_steps(tmp_path):
    grid, best = steps_and_best("none", tmp_path / "grid", 2)
    median, found = steps_and_best("median", tmp_path / "median", 2)
    assert found == best
    assert median < 0.8 * grid
