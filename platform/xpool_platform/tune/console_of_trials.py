"""What Ray Tune tells of the trials while they run: to the console, and into their records."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ray.tune import Callback, Stopper

from xpool_platform.console import Stage
from xpool_platform.runtime import interrupts_held
from xpool_platform.tune.lost_places import LostPlaces
from xpool_platform.tune.ranking import Ranking
from xpool_platform.tune.trial import INDEX, UNTIL
from xpool_platform.tune.trial_record import TrialRecord, TrialRecords

ENDED = "FINISHED", "STOPPED", "FAILED"


class ConsoleOfTrials(Callback, Stopper):
    """Shows how many trials have ended, marks those that the scheduler ended, and ends the sweep
    when too many have failed or the user wants it."""

    def __init__(
        self,
        records: TrialRecords,
        ranking: Ranking,
        num_trials: int,
        max_failed: int,
        stage: Stage,
    ) -> None:
        self._records, self._ranking, self._num_trials = records, ranking, num_trials
        self._max_failed, self._stage = max_failed, stage
        self._lost = LostPlaces()
        self._num_failed = 0
        self._interrupted: Callable[[], bool] = lambda: False
        self._show()

    def __getstate__(self) -> dict[str, Any]:
        """Ray Tune keeps a copy on disk, which nobody reads; a terminal cannot be in it."""
        left_out = "_stage", "_interrupted"
        return {name: value for name, value in vars(self).items() if name not in left_out}

    def __call__(self, *_: Any) -> bool:
        """No trial is ended for what it alone reached."""
        return False

    @contextmanager
    def interrupts(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM let the trials write a checkpoint; a second one does not wait.

        Raises KeyboardInterrupt at the end if there was one.
        """
        with interrupts_held() as interrupted:
            self._interrupted = interrupted
            yield

    def stop_all(self) -> bool:
        """Whether more trials have failed than may, or the user wants an end."""
        return self._interrupted() or self._num_failed > self._max_failed

    def on_step_begin(self, **_: Any) -> None:
        self._lost.look()

    def on_trial_result(self, **_: Any) -> None:
        self._show()

    def on_trial_complete(self, *, trial: Any, **_: Any) -> None:
        record = self._record_of(trial)
        to_the_end = UNTIL not in trial.config and not self.stop_all()
        if record is not None and record.status == "RUNNING" and to_the_end:
            self._records.write(replace(record, status="STOPPED"))
        self._show()

    def on_trial_recover(self, **_: Any) -> None:
        self._lost.expect()

    def on_trial_error(self, *, trial: Any, **_: Any) -> None:
        self._lost.expect()
        record = self._record_of(trial)
        if record is not None and record.status == "RUNNING":
            reason = "its process died without a word; the node may be short of memory"
            self._records.write(replace(record, status="FAILED", reason=reason))
        self._show()

    def _record_of(self, trial: Any) -> TrialRecord | None:
        return self._records.read(int(trial.config[INDEX]))

    def _show(self) -> None:
        records = self._records.all()
        done = sum(record.status in ENDED for record in records)
        self._num_failed = sum(record.status == "FAILED" for record in records)
        best = self._ranking.ranked(records)
        text = ""
        if best:
            value = self._ranking.value(best[0])
            text = f"best {self._ranking.metric} {value:.1f} ({best[0].name})"
        self._stage(done, self._num_trials, text)
