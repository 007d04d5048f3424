"""Ray Train: the workers of a training, and what the driver does while they work."""

import threading
from typing import Any

import ray
from ray.data import ExecutionOptions
from ray.train import DataConfig as RayDataConfig
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from xpool_platform.console import Console
from xpool_platform.data.feed import Feed, training_dataset
from xpool_platform.progress import TrainingProgress
from xpool_platform.train.job import TrainingJob, run_job

POLL_S = 0.25


def fit(job: TrainingJob, feed: Feed, console: Console) -> dict[str, Any]:
    """Train on the workers and show how far they are; gives rank 0's report as a dictionary.

    Ray Train runs in a thread of its own, so that Ctrl-C stays with this, the main thread.
    """
    trainer = _trainer(job, feed)
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["result"] = trainer.fit()
        except BaseException as error:  # noqa: BLE001  # raised again below, in the main thread
            outcome["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    with console.stage("training") as stage:
        stage(0, job.num_steps, "starting the workers")
        thread.start()
        while thread.is_alive():
            progress = ray.get(job.board.get.remote())
            if progress is not None:
                stage(progress.step, job.num_steps, _in_words(progress))
            thread.join(POLL_S)
    if "error" in outcome:
        raise outcome["error"]
    report: dict[str, Any] = outcome["result"].return_value
    return report


def _in_words(progress: TrainingProgress) -> str:
    loss = f"loss {progress.loss:.3f}" if progress.loss is not None else ""
    speed = f"{progress.pairs_per_s:.0f} pairs/s" if progress.pairs_per_s is not None else ""
    return ", ".join(filter(None, (loss, speed, progress.note)))


def _trainer(job: TrainingJob, feed: Feed) -> TorchTrainer:
    train = job.config.train
    resources = {"CPU": train.cpus_per_worker} | ({"GPU": 1} if train.use_gpu else {})
    return TorchTrainer(
        run_job,
        train_loop_config={"job": job},
        datasets={"train": training_dataset(feed, job.config.data.decode_cpus)},
        dataset_config=RayDataConfig(
            datasets_to_split=["train"],
            execution_options=ExecutionOptions(preserve_order=True),
        ),
        scaling_config=ScalingConfig(
            num_workers=train.num_workers,
            use_gpu=train.use_gpu,
            resources_per_worker=resources,
        ),
        run_config=RunConfig(name="ray_train", storage_path=job.run_dir),
    )
