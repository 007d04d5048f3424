"""Ray Train: the workers of a training, what the driver does while they work, and after a loss.

Every attempt is a training of its own for Ray, under a name of its own: where to go on is read
from our checkpoints, so nothing depends on the files that Ray keeps.
"""

import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

import ray
from ray.data import ExecutionOptions
from ray.train import DataConfig as RayDataConfig
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from xpool_platform.checkpoint_files import read_state
from xpool_platform.console import Console, Stage
from xpool_platform.data.feed import Feed, training_dataset
from xpool_platform.errors import user_error_within
from xpool_platform.locations import remove_folder
from xpool_platform.placement import WHERE_DECODING, WHERE_TRAINING
from xpool_platform.progress import Follower, TrainingProgress
from xpool_platform.train.capacity import fitting_workers, room_to_evaluate
from xpool_platform.train.job import BATCHES, TrainingJob, run_job
from xpool_platform.train.last_checkpoint import last_whole_checkpoint
from xpool_platform.train.process_group import NodeTorchConfig
from xpool_platform.train.watch import STOP_WITHIN_S, Watch

POLL_S = 0.25
RAY_FILES = "ray_train"
"""The folder that Ray Train writes to; nothing is read from it."""


def train_to_the_end(
    job: TrainingJob,
    feed: Feed,
    console: Console,
    follower: Follower | None = None,
) -> dict[str, Any] | None:
    """Train, going on after losses; gives rank 0's report as a dictionary, None at until_step.

    Where a training goes on, the follower hears of its earlier evaluations again.
    Raises the last error after train.max_failures failures without a checkpoint between them.
    """
    failures = 0
    with suppress(OSError):
        remove_folder(_ray_files(job))  # left by a job that was killed
    job, feed = _from_last_checkpoint(job, feed, console, follower)
    while job.until_step is None or job.first_step < job.until_step:
        workers, before = _await_workers(job, console), job.first_step
        again = replace(job, goes_on=True)
        job = _with_evaluation(job, workers, console)
        try:
            done = _Attempt(job, replace(feed, world_size=workers), console, follower).run()
        except Exception as error:
            if user_error_within(error) is not None:
                raise
            console.line(f"training was interrupted: {_reason(error)}")
            job, feed = _from_last_checkpoint(again, feed, console, follower)
            failures = 1 if job.first_step > before else failures + 1
            if failures > job.config.train.max_failures:
                raise
        else:
            if "report" in done:
                if done["ended_after"] < job.num_steps:
                    console.line(
                        f"training ended after step {done['ended_after']}: no better score in "
                        f"{job.config.train.patience} evaluations (train.patience)"
                    )
                report: dict[str, Any] = done["report"]
                return report
            job, feed = _from_last_checkpoint(again, feed, console, follower)
    return None


def _from_last_checkpoint(
    job: TrainingJob, feed: Feed, console: Console, follower: Follower | None
) -> tuple[TrainingJob, Feed]:
    found = last_whole_checkpoint(job.checkpoints)
    for damage in found.damaged:
        console.line(f"passed over: {damage}")
    if found.step:
        console.line(f"going on from step {found.step}")
        if follower is not None:  # which may have died before it heard of the last one
            for each in read_state(found.location).evaluations:
                metrics = {name: value for name, value in each.items() if name != "step"}
                follower.evaluated(int(each["step"]), job.num_steps, metrics)
    elif job.goes_on:
        console.line("no checkpoint was written yet: training begins at step 0")
    return (
        replace(job, resume_from=found.location, first_step=found.step),
        replace(feed, first_step=found.step),
    )


def _await_workers(job: TrainingJob, console: Console) -> int:
    """How many workers the cluster has room for, train.num_workers at most."""
    train = job.config.train
    told = False
    while (workers := fitting_workers(job.config)) < train.min_workers:
        if not told:
            console.line(
                f"waiting for nodes: there is room for {workers} workers, and train.min_workers "
                f"is {train.min_workers}"
            )
            told = True
        time.sleep(1)
    if workers < train.num_workers:
        console.line(f"the nodes have room for {workers} of {train.num_workers} workers")
    return workers


def _with_evaluation(job: TrainingJob, workers: int, console: Console) -> TrainingJob:
    """The job, told whether the cluster has room to evaluate beside so many workers."""
    wanted = job.config.train.eval_workers
    beside = wanted > 0 and not job.towers and room_to_evaluate(job.config, workers)
    if wanted and not beside:
        why = "embeddings are cached" if job.towers else f"there is no room for {wanted} more"
        console.line(f"the training workers evaluate (train.eval_workers {wanted}): {why}")
    return replace(job, evaluates_beside=beside)


def _ray_files(job: TrainingJob) -> str:
    """A place that all workers reach."""
    return f"{job.run_dir if job.folder is None else job.checkpoints}/{RAY_FILES}"


def _reason(error: BaseException) -> str:
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}, {first.strip()[:200]}"


class WorkersEndedError(Exception):
    """The driver ended the workers of an attempt; the message says why."""


class _Attempt:
    """One group of workers, from its start to the end of the training, or of one of them."""

    def __init__(
        self, job: TrainingJob, feed: Feed, console: Console, follower: Follower | None
    ) -> None:
        self._job, self._feed, self._console = job, feed, console
        self._follower = follower
        self._watch = Watch(job, feed.world_size, console)
        self._name = f"attempt-{time.time_ns():x}"
        self._outcome: dict[str, Any] = {}
        self._over = threading.Event()
        """Set at the end of Ray Train's thread.

        An interrupt in Thread.join takes a running thread for an ended one (Python 3.11).
        """

    def run(self) -> dict[str, Any]:
        """What rank 0 gives. Ray Train runs in a thread, so that Ctrl-C stays with this one."""
        job = self._job
        job.board.begin.remote()  # it starts beside the workers
        with self._console.stage("training") as stage:
            stage(job.first_step, job.num_steps, "starting the workers")
            threading.Thread(target=self._fit, daemon=True).start()
            try:
                self._follow(stage)
            except KeyboardInterrupt:
                self._stop_for_good()
                raise
            finally:
                with suppress(OSError):
                    remove_folder(_ray_files(job))
        if "error" in self._outcome:
            error = self._outcome["error"]
            if self._watch.ended:
                raise WorkersEndedError(self._watch.ended) from error
            raise error
        done: dict[str, Any] = self._outcome["result"].return_value
        return done

    def _fit(self) -> None:
        try:
            self._outcome["result"] = self._trainer().fit()
        except BaseException as error:  # noqa: BLE001  # raised again in the main thread
            self._outcome["error"] = error
        finally:
            self._over.set()

    def _follow(self, stage: Stage) -> None:
        """Show how far the workers are, and look after them, until they are done."""
        job = self._job
        shown = TrainingProgress(step=job.first_step)
        while not self._over.wait(POLL_S):
            progress = ray.get(job.board.get.remote())
            if progress is not None and progress != shown:
                shown = progress
                stage(progress.step, job.num_steps, _in_words(progress))
            self._tell_follower()
            self._watch.look()
        self._tell_follower()

    def _tell_follower(self) -> None:
        if self._follower is not None:
            for step, metrics in ray.get(self._job.board.evaluations.remote()):
                self._follower.evaluated(step, self._job.num_steps, metrics)
            self._follower.look()

    def _stop_for_good(self) -> None:
        """Ask the workers for a last checkpoint and give them time for it."""
        job = self._job
        ray.get(job.board.stop.remote("the job was interrupted"))
        begun = bool(ray.get(job.board.pulses.remote())[1])
        self._over.wait(STOP_WITHIN_S if begun else 0)
        if last_whole_checkpoint(job.checkpoints).step:
            self._console.line(f"python jobs/train.py --resume {job.run_name} goes on from here")

    def _trainer(self) -> TorchTrainer:
        job, train = self._job, self._job.config.train
        resources = {"CPU": train.cpus_per_worker}
        if train.use_gpu:
            resources["GPU"] = train.gpus_per_worker
        left = job.first_step < job.num_steps
        batches = {}
        if left:
            batches[BATCHES] = training_dataset(self._feed, job.config.data.decode_cpus)
        return TorchTrainer(
            run_job,
            train_loop_config={"job": job},
            datasets=batches,
            torch_config=NodeTorchConfig(),
            dataset_config=RayDataConfig(
                datasets_to_split=list(batches),
                execution_options=ExecutionOptions(
                    preserve_order=True, label_selector=WHERE_DECODING
                ),
            ),
            scaling_config=ScalingConfig(
                num_workers=self._feed.world_size,
                use_gpu=train.use_gpu,
                resources_per_worker=resources,
                label_selector=WHERE_TRAINING,
            ),
            run_config=RunConfig(
                name=self._name,
                storage_path=_ray_files(job),
                # Ray would begin again at the step at which this attempt began
                failure_config=FailureConfig(max_failures=0, max_preemption_failures=0),
            ),
        )


def _in_words(progress: TrainingProgress) -> str:
    loss = f"loss {progress.loss:.3f}" if progress.loss is not None else ""
    speed = f"{progress.pairs_per_s:.0f} pairs/s" if progress.pairs_per_s is not None else ""
    return ", ".join(filter(None, (loss, speed, progress.note)))
