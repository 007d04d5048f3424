"""All trials of a sweep, by Ray Tune; what they were is in their records."""

import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ray import tune
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import ConcurrencyLimiter, Searcher

from xpool_platform.console import Console
from xpool_platform.errors import UserError
from xpool_platform.sweep_config import SweepConfig
from xpool_platform.train.launch import evaluated_steps
from xpool_platform.tune.console_of_trials import ConsoleOfTrials
from xpool_platform.tune.population import run_population
from xpool_platform.tune.ranking import Ranking
from xpool_platform.tune.search import TrialSearch, num_trials_of, schedule
from xpool_platform.tune.space import Space
from xpool_platform.tune.trial import Sweep, trainable
from xpool_platform.tune.trial_record import TrialRecords

if TYPE_CHECKING:
    from xpool_platform.tracking.mlflow_store import MlflowStore

RAY_FILES = "ray_tune-"
"""How the folders begin that Ray Tune writes to, and that nothing is read from."""

TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
"""Interrupts stay with the job, and records are ours."""


class Trials:
    """The trials that a sweep still has before it."""

    def __init__(
        self,
        sweep: Sweep,
        config: SweepConfig,
        space: Space,
        *,
        store: "MlflowStore",
        console: Console,
    ) -> None:
        self._sweep, self._config, self._space = sweep, config, space
        self._store, self._console = store, console
        self._records = TrialRecords(Path(sweep.records))
        self._folder = Path(sweep.records).parent

    def run(self, at_once: int) -> None:
        """Run them to their ends.

        Raises UserError when too many fail, and KeyboardInterrupt after Ctrl-C or SIGTERM, when
        those that train have written a checkpoint.
        """
        os.environ.update(TUNE_ENVIRONMENT)
        for left in self._folder.glob(f"{RAY_FILES}*"):  # by a job that was killed
            shutil.rmtree(left, ignore_errors=True)
        config, space, ranking = self._config, self._space, Ranking.of(self._config)
        steps = evaluated_steps(self._sweep.config, self._sweep.decoded.videos)
        with self._console.stage("trials") as stage:
            shown = ConsoleOfTrials(
                self._records,
                ranking,
                num_trials_of(config, space),
                config.max_failed_trials,
                stage,
            )
            if config.scheduler == "pbt":
                run_population(
                    self._sweep,
                    config,
                    space,
                    steps,
                    store=self._store,
                    tuned=lambda search: self._tuned(search, None, at_once, shown),
                )
                return
            size, grace = self._sweep.batch_size, min(config.grace_evals, len(steps))
            rule = schedule(
                config,
                metric=ranking.metric,
                num_pairs=steps[-1] * size,
                grace_pairs=steps[grace - 1] * size,
            )
            search = TrialSearch(config, space, ranking, self._records)
            self._tuned(search, rule, at_once, shown)

    def _tuned(
        self,
        search: Searcher,
        rule: TrialScheduler | None,
        at_once: int,
        shown: ConsoleOfTrials,
    ) -> None:
        name = f"{RAY_FILES}{time.time_ns():x}"
        with shown.interrupts():
            tune.Tuner(
                trainable(self._sweep),
                tune_config=tune.TuneConfig(
                    search_alg=ConcurrencyLimiter(search, at_once),
                    scheduler=rule,
                    num_samples=-1,
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(
                    name=name,
                    storage_path=str(self._folder),
                    callbacks=[shown],
                    stop=shown,
                    # for a process that died; a trial that fails says so again at once
                    failure_config=tune.FailureConfig(max_failures=1),
                    verbose=0,
                ),
            ).fit()
        shutil.rmtree(self._folder / name, ignore_errors=True)
        self._check_failed()

    def _check_failed(self) -> None:
        failed = [record for record in self._records.all() if record.status == "FAILED"]
        most = self._config.max_failed_trials
        if len(failed) > most:
            raise UserError(
                f"{len(failed)} trials failed, more than max_failed_trials {most}; the last: "
                f"{failed[-1].name}, {failed[-1].reason}"
            )
