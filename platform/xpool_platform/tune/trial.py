"""A trial of a sweep: a training, like any other, that tells Ray Tune of its evaluations."""

import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray.tune

from xpool_platform.checkpoint_files import CONFIG
from xpool_platform.config import ExperimentConfig
from xpool_platform.console import Console
from xpool_platform.data.decode import DecodedManifest
from xpool_platform.errors import user_error_within
from xpool_platform.run_lease import run_lease
from xpool_platform.run_record import record_start
from xpool_platform.tracking.tracker import Tracker
from xpool_platform.train.launch import train_decoded
from xpool_platform.training_command import training_command
from xpool_platform.tune.distributions import Value
from xpool_platform.tune.space import with_values
from xpool_platform.tune.trial_record import TrialEvaluation, TrialRecord, TrialRecords

PAIRS = "num_pairs"
"""Name of the number of pairs seen, which Ray Tune counts a trial's time in."""

INDEX = "trial"
"""Key of a trial's index, beside its values."""

UNTIL = "until"
"""Key of the step at which it stands still, for a while; not there: it goes to the end."""

LOG = "console.txt"
"""What a trial says, in its run's folder."""

END_WITHIN_S = 40.0
"""Time for a last checkpoint, and for the workers to go."""

LEASE_WITHIN_S = 60.0
"""How long the trial of a job that was killed may take to die."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """What the trials of a sweep share."""

    name: str
    config: ExperimentConfig
    """The experiment before any field is varied; trials report on the split that selects."""

    decoded: DecodedManifest
    batch_size: int
    """Pairs of a batch, where the data allows those of train.batch_size."""

    num_missing: int
    """Videos of the split that selects that could not be decoded."""

    records: str
    """The folder of the trials' records."""

    runs: str
    """The folder of the trials' runs."""

    tracking_uri: str
    tracking_experiment: str
    artifacts: str
    parent_run_id: str
    began_s: float
    """When the sweep began, by the clock; a pause between two jobs is left out."""

    def trial_name(self, index: int) -> str:
        """Name of a trial, and of its run."""
        return f"{self.name}-{index:03d}"


class Trial(ray.tune.Trainable):
    """Ray Tune's view of a trial: a step is an evaluation, known already or to come.

    Ended early, the training writes a checkpoint and gives its workers back; Ray Tune's way for
    functions would leave their places taken.
    """

    def setup(self, config: dict[str, Value], sweep: Sweep) -> None:
        """Begin to train in a thread, or to repeat what is known of a trial that has ended."""
        self._last: dict[str, Any] = {}
        self._sweep = sweep
        self._begin(config)

    def reset_config(self, new_config: dict[str, Value]) -> bool:
        """Begin another trial in this process, which has its imports behind it."""
        self._end_training()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """The next evaluation; the last one again, with `done`, when there are no more."""
        told = self._told.get()
        if isinstance(told, BaseException):
            raise told
        if told is None:
            return {**self._last, "done": True}
        self._last = {**told.metrics, PAIRS: told.num_pairs}
        return self._last

    def save_checkpoint(self, *_: Any) -> dict[str, Any]:
        """Nothing: the run keeps its own, and its record says where a trial goes on."""
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing, likewise."""

    def cleanup(self) -> None:
        """End the training, if it still goes on, and wait until it has ended."""
        self._end_training()

    def _begin(self, given: dict[str, Value]) -> None:
        sweep, values = self._sweep, dict(given)
        index, until = int(str(values.pop(INDEX))), values.pop(UNTIL, None)
        records = TrialRecords(Path(sweep.records))
        record = records.read(index) or TrialRecord(
            index=index, name=sweep.trial_name(index), values=values
        )
        records.write(record)
        self._told: queue.Queue[TrialEvaluation | BaseException | None] = queue.Queue()
        self._end = threading.Event()
        for evaluation in record.evaluations:
            self._told.put(evaluation)
        training = _TrialTraining(
            sweep,
            records,
            record,
            until_step=None if until is None else int(str(until)),
            told=self._told,
            end=self._end,
        )
        self._thread = threading.Thread(target=training.run, daemon=True)
        self._thread.start()
        self._last = {}

    def _end_training(self) -> None:
        self._end.set()
        self._thread.join(END_WITHIN_S)


class _TrialTraining:
    """The training of a trial, in a thread of its process."""

    def __init__(
        self,
        sweep: Sweep,
        records: TrialRecords,
        record: TrialRecord,
        *,
        until_step: int | None,
        told: "queue.Queue[TrialEvaluation | BaseException | None]",
        end: threading.Event,
    ) -> None:
        self._sweep, self._records, self._record = sweep, records, record
        self._until_step = until_step
        self._told, self._end = told, end
        self._config = sweep.config
        self._at_the_end: TrialEvaluation | None = None

    def run(self) -> None:
        """Train; all that Ray Tune has to know goes through the queue."""
        try:
            if self._record.status == "FAILED":
                raise RuntimeError(self._record.reason)
            if self._record.status == "RUNNING":
                self._train()
        except KeyboardInterrupt:  # nobody listens any more
            return
        except BaseException as error:  # noqa: BLE001  # raised again in the process's main thread
            self._told.put(error)
        else:
            if self._at_the_end is not None:
                self._told.put(self._at_the_end)
            self._told.put(None)

    def evaluated(self, step: int, num_steps: int, metrics: Mapping[str, float]) -> None:
        """Keep an evaluation, and tell Ray Tune of it; of the last only when all is done."""
        evaluation = TrialEvaluation(
            step=step,
            num_pairs=step * self._sweep.batch_size,
            metrics=dict(metrics),
            seconds=time.time() - self._sweep.began_s,
        )
        seen = self._record.seen(evaluation)
        if seen is not self._record:  # after a loss an evaluation comes a second time
            self._keep(seen)
            if step < num_steps:
                self._told.put(evaluation)
            else:
                self._at_the_end = evaluation

    def look(self) -> None:
        """End the training when Ray Tune wants it."""
        if self._end.is_set():
            raise KeyboardInterrupt

    def _train(self) -> None:
        # seconds of imports that a trial which has ended is spared
        from xpool_platform.tracking.mlflow_store import MlflowStore, awaited  # noqa: PLC0415

        sweep, record = self._sweep, self._record
        run_dir = Path(sweep.runs, record.name)
        goes_on = (run_dir / CONFIG).is_file()
        run_dir.mkdir(parents=True, exist_ok=True)
        place = sweep.tracking_uri, sweep.tracking_experiment, Path(sweep.artifacts)
        with (run_dir / LOG).open("a", encoding="utf-8", buffering=1) as log:
            console = Console(file=log)
            store = awaited(lambda: MlflowStore(*place), console.line)
            tracker = awaited(
                lambda: store.child_run(record.name, sweep.parent_run_id, run_dir, console.line),
                console.line,
            )
            self._keep(replace(record, run_id=tracker.run_id))
            self._train_recorded(tracker, run_dir, goes_on=goes_on, console=console)

    def _train_recorded(
        self, tracker: Tracker, run_dir: Path, *, goes_on: bool, console: Console
    ) -> None:
        sweep, record = self._sweep, self._record
        try:
            with run_lease(run_dir, within_s=LEASE_WITHIN_S):
                self._config = with_values(sweep.config, record.values)
                self._config = replace(self._config, run_name=record.name)
                if not goes_on:
                    record_start(tracker, self._config, run_dir)
                    unlike = ("tracking.log_checkpoints",)
                    command = training_command(sweep.config, record.values, without=unlike)
                    tags = {"sweep": sweep.name, "trial": str(record.index), "command": command}
                    tracker.set_tags(tags)
                report = train_decoded(
                    self._config,
                    sweep.decoded,
                    num_missing=sweep.num_missing,
                    run_dir=run_dir,
                    tracker=tracker,
                    goes_on=goes_on,
                    console=console,
                    follower=self,
                    until_step=self._until_step,
                )
        except Exception as error:
            reason = str(user_error_within(error) or f"{type(error).__name__}: {error}")
            self._keep(replace(self._record, status="FAILED", reason=reason[:1000]))
            tracker.set_tags({"reason": reason[:1000]})
            tracker.finish("FAILED")
            raise
        except BaseException:  # Ray Tune ends the trial; the sweep says of what it died
            tracker.finish("KILLED")
            raise
        if report is None:  # it stands still, and may go on
            tracker.finish("KILLED")
            return
        self._keep(replace(self._record, status="FINISHED"))
        tracker.finish("FINISHED")

    def _keep(self, record: TrialRecord) -> None:
        self._record = record
        self._records.write(record)


def trainable(sweep: Sweep) -> Any:
    """What Ray Tune runs for each trial; it reserves nothing, its training workers do."""
    # of the node with the driver, which is where a trial watches its workers from
    nothing = {"node:__internal_head__": 0.001}
    return ray.tune.with_resources(ray.tune.with_parameters(Trial, sweep=sweep), nothing)
