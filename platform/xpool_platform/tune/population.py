"""Population-based training of learning rates (Jaderberg et al., 2017), in rounds.

After each round the worst quarter of the trials become copies of the best quarter, weights and
optimiser included, and go on with rates of their own near those. Ray Tune's scheduler of that name
keeps its decisions in memory; these are files, so that a sweep that was killed goes on with the
population that it had.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ray.tune.search import Searcher

from xpool_platform.checkpoint_files import (
    MANIFEST,
    STATE,
    checkpoints_below,
    checkpoints_of,
    read_file,
    read_state,
    state_bytes,
    write_files,
)
from xpool_platform.errors import UserError
from xpool_platform.locations import files_below, remove_file, write_whole
from xpool_platform.sweep_config import SweepConfig
from xpool_platform.tune.distributions import Choice, Distribution, Grid, Value
from xpool_platform.tune.ranking import Ranking
from xpool_platform.tune.search import TrialSearch, drawn
from xpool_platform.tune.space import Space
from xpool_platform.tune.trial import INDEX, UNTIL, Sweep
from xpool_platform.tune.trial_record import TrialCopy, TrialRecord, TrialRecords

if TYPE_CHECKING:
    from xpool_platform.tracking.mlflow_store import MlflowStore

FILE = "population.json"
COPIED_SHARE = 0.25
FACTORS = 0.8, 1.2
REDRAWN = 0.25
"""The share of rates that are drawn anew rather than changed by a factor."""


def run_population(
    sweep: Sweep,
    config: SweepConfig,
    space: Space,
    steps: list[int],
    *,
    store: "MlflowStore",
    tuned: Callable[[Searcher], None],
) -> None:
    """Train the population round by round; `steps`: those after which a trial evaluates.

    Raises UserError if there are fewer of them than rounds.
    """
    if config.pbt_rounds > len(steps):
        raise UserError(
            f"pbt_rounds {config.pbt_rounds} are more than the {len(steps)} evaluations of a "
            "training; lower --pbt-rounds or raise --train.evals-per-run"
        )
    records, ranking = TrialRecords(Path(sweep.records)), Ranking.of(config)
    path = Path(sweep.records).parent / FILE
    done = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    for number in range(config.pbt_rounds):
        step = steps[round(len(steps) * (number + 1) / config.pbt_rounds) - 1]
        last = number == config.pbt_rounds - 1
        if number >= len(done):
            tuned(_Round(config, space, ranking, records, until=None if last else step))
        if last:
            return
        if number >= len(done):
            draw = np.random.default_rng([config.search_seed, number + 1])
            done.append(copies_of(ranking.ranked(records.all()), space, step, draw))
            write_whole(str(path), json.dumps(done, indent=1).encode())
        if number == len(done) - 1:  # a copy that was interrupted is made again
            for index, said in done[number].items():
                _copy(int(index), TrialCopy(**said), sweep, records, store)


def copies_of(
    ranked: list[TrialRecord], space: Space, step: int, draw: np.random.Generator
) -> dict[str, dict[str, Any]]:
    """By the index of each of the worst: which of the best it becomes, and its new values."""
    num_copied = min(math.ceil(COPIED_SHARE * len(ranked)), len(ranked) // 2)
    copies = {}
    for worst in ranked[len(ranked) - num_copied :]:
        best = ranked[int(draw.integers(num_copied))]
        values = {name: _near(best.values[name], space[name], draw) for name in space}
        copies[str(worst.index)] = asdict(TrialCopy(step=step, source=best.name, values=values))
    return copies


class _Round(TrialSearch):
    """The trials that have not failed, each up to a step."""

    def __init__(
        self,
        config: SweepConfig,
        space: Space,
        ranking: Ranking,
        records: TrialRecords,
        *,
        until: int | None,
    ) -> None:
        super().__init__(config, space, ranking, records)
        self._until = until

    def suggest(self, trial_id: str) -> Any:
        values = super().suggest(trial_id)
        if isinstance(values, dict):
            record = self._records.read(values[INDEX])
            if record is not None and record.status == "FAILED":
                return self.suggest(trial_id)
            if self._until is not None:
                values[UNTIL] = self._until
        return values


def _copy(
    index: int, copy: TrialCopy, sweep: Sweep, records: TrialRecords, store: "MlflowStore"
) -> None:
    """Make a trial the copy of another, unless it is already."""
    record = records.read(index)
    source = next(each for each in records.all() if each.name == copy.source)
    assert record is not None
    if copy in record.copies:
        return
    mine, others = (
        checkpoints_of(sweep.config, Path(sweep.runs, name)) for name in (record.name, copy.source)
    )
    for location in checkpoints_below(mine).values():
        remove_file(f"{location}/{MANIFEST}")
    for location in checkpoints_below(others).values():
        names = [info.base_name for info in files_below(location) if info.base_name != MANIFEST]
        files = {name: read_file(location, name).to_pybytes() for name in names}
        files[STATE] = state_bytes(replace(read_state(location), run_id=record.run_id))
        write_files(location.replace(others, mine, 1), files)
    rates = ", ".join(f"{name} {value}" for name, value in copy.values.items())
    tag = f"copy of {copy.source}, then {rates}"
    tracker = store.open_run(record.run_id, Path(sweep.runs, record.name), lambda _: None)
    tracker.set_tags({f"population.after_step_{copy.step}": tag})
    tracker.close()
    records.write(
        replace(
            record,
            values=copy.values,
            evaluations=source.evaluations,
            copies=[*record.copies, copy],
        )
    )


def _near(value: Value, distribution: Distribution, draw: np.random.Generator) -> Value:
    """A value drawn anew, or one beside the given: a factor away, or the next of a choice."""
    if draw.random() < REDRAWN:
        return drawn(distribution, draw)
    up = bool(draw.integers(2))
    if isinstance(distribution, Choice | Grid):
        values = sorted(distribution.values, key=lambda each: float(str(each)))
        at = values.index(value) + (1 if up else -1)
        return values[min(max(at, 0), len(values) - 1)]
    changed = float(str(value)) * FACTORS[up]
    return min(max(changed, distribution.low), distribution.high)
