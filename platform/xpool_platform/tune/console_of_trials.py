"""What Ray Tune tells of the trials while they run: to the console, and into their records."""

from dataclasses import replace
from typing import Any

from ray.tune import Callback, Stopper

from xpool_platform.console import Stage
from xpool_platform.tune.trial_record import TrialRecord, TrialRecords

ENDED = "FINISHED", "STOPPED", "FAILED"


class ConsoleOfTrials(Callback, Stopper):
    """Shows how many trials have ended, marks those that the scheduler ended, and ends the sweep
    when too many have failed."""

    def __init__(
        self,
        records: TrialRecords,
        metric: str,
        num_trials: int,
        max_failed: int,
        stage: Stage,
    ) -> None:
        self._records, self._metric, self._num_trials = records, metric, num_trials
        self._max_failed, self._stage = max_failed, stage
        self._show()

    def __getstate__(self) -> dict[str, Any]:
        """Ray Tune keeps a copy on disk, which nobody reads; a terminal cannot be in it."""
        return {name: value for name, value in vars(self).items() if name != "_stage"}

    def __call__(self, *_: Any) -> bool:
        """No trial is ended for what it alone reached."""
        return False

    def stop_all(self) -> bool:
        """Whether more trials have failed than may."""
        failed = [record for record in self._records.all() if record.status == "FAILED"]
        return len(failed) > self._max_failed

    def on_trial_result(self, **_: Any) -> None:
        self._show()

    def on_trial_complete(self, *, trial: Any, **_: Any) -> None:
        record = self._record_of(trial)
        if record is not None and record.status == "RUNNING":
            self._records.write(replace(record, status="STOPPED"))
        self._show()

    def on_trial_error(self, *, trial: Any, **_: Any) -> None:
        record = self._record_of(trial)
        if record is not None and record.status == "RUNNING":
            reason = "its process died without a word; the node may be short of memory"
            self._records.write(replace(record, status="FAILED", reason=reason))
        self._show()

    def _record_of(self, trial: Any) -> TrialRecord | None:
        return self._records.read(int(trial.trial_id.rsplit("_", 1)[1]))

    def _show(self) -> None:
        records = self._records.all()
        done = sum(record.status in ENDED for record in records)
        bests = {record.name: record.best(self._metric) for record in records}
        known = {name: best for name, best in bests.items() if best is not None}
        text = ""
        if known:
            name = max(known, key=lambda each: known[each])
            text = f"best {self._metric} {known[name]:.1f} ({name})"
        self._stage(done, self._num_trials, text)
