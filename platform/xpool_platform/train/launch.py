"""A whole training from the driver: checks, corpus, decoding, workers, report."""

import importlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import ray

from xpool.clip_names import clip_image_size
from xpool_platform.config import ExperimentConfig
from xpool_platform.config_io import flatten, write_config
from xpool_platform.console import Console
from xpool_platform.data.decode import DecodedManifest, decode_manifest
from xpool_platform.data.feed import Feed
from xpool_platform.data.manifest import folder_manifest, hold_out_validation
from xpool_platform.data.plan import BatchPlan
from xpool_platform.data.shapes import make_shapes
from xpool_platform.errors import UserError, user_error_within
from xpool_platform.evaluate.report import RetrievalReport
from xpool_platform.preflight import (
    check_cluster,
    check_model,
    prepare_output_dir,
    with_absolute_paths,
)
from xpool_platform.progress import start_board
from xpool_platform.runtime import ray_session
from xpool_platform.tracking.tracker import RunStatus, Tracker
from xpool_platform.train.job import TrainingJob

if TYPE_CHECKING:
    from xpool_platform.tracking.mlflow_tracker import MlflowStore


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingResult:
    """What a training leaves behind."""

    report: RetrievalReport
    run_name: str
    run_dir: Path
    tracking_uri: str
    run_id: str


def run_training(config: ExperimentConfig, console: Console) -> TrainingResult:
    """Train an experiment and report on it.

    Raises UserError for what the user can put right, before any training where it can be known by
    then. The MLflow run ends as FINISHED, FAILED or, after Ctrl-C or SIGTERM, as KILLED.
    """
    config = with_absolute_paths(config)
    check_model(config)
    output_dir = prepare_output_dir(config)
    # raylets of one machine replace each other's copy of a job's folder, and this one's with it
    os.chdir(output_dir)
    if config.data.source == "folder":
        folder_manifest(_folder(config))
    run_name = config.run_name or _new_run_name(config)
    run_dir = output_dir / "runs" / run_name
    if run_dir.exists():
        raise UserError(
            f"run_name {run_name!r} is used already, in {run_dir}; choose another --run-name "
            "or leave it out"
        )
    opening = _open_store(config, output_dir)
    with ray_session():
        check_cluster(config)
        tracker = opening.result().start_run(run_name)
        with _run_ended(tracker):
            run_dir.mkdir(parents=True)
            _record(tracker, config, run_dir)
            report = _train(config, output_dir, run_dir, tracker, console)
    return TrainingResult(
        report=report,
        run_name=run_name,
        run_dir=run_dir,
        tracking_uri=tracker.uri,
        run_id=tracker.run_id,
    )


def _open_store(config: ExperimentConfig, output_dir: Path) -> "Future[MlflowStore]":
    """MLflow's store, opened beside Ray's start: both take seconds, and so does importing torch."""

    def open_store() -> "MlflowStore":
        from xpool_platform.tracking.mlflow_tracker import MlflowStore  # noqa: PLC0415

        store = MlflowStore(
            config.tracking.uri or f"sqlite:///{output_dir / 'mlflow.db'}",
            config.tracking.experiment or config.name,
            output_dir / "mlartifacts",
        )
        importlib.import_module("xpool_platform.train.fit")
        return store

    pool = ThreadPoolExecutor(1)
    opening = pool.submit(open_store)
    pool.shutdown(wait=False)
    return opening


@contextmanager
def _run_ended(tracker: Tracker) -> Iterator[None]:
    """End the run as FINISHED, FAILED or KILLED; raise the user's part of an error as UserError."""
    status: RunStatus = "FAILED"
    try:
        yield
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    except Exception as error:
        user_error = user_error_within(error)
        if user_error is None:
            raise
        raise user_error from None
    finally:
        tracker.finish(status)


def _train(
    config: ExperimentConfig,
    output_dir: Path,
    run_dir: Path,
    tracker: Tracker,
    console: Console,
) -> RetrievalReport:
    decoded = _decode(config, output_dir, console)
    for bad in decoded.bad:
        console.line(f"left out {bad.video_id}: {bad.kind}, {bad.reason}")
    _check_splits(config, decoded.videos)
    train_videos = decoded.videos.filter(pc.equal(decoded.videos["split"], "train"))
    batch_size = min(config.train.batch_size, len(train_videos))
    if batch_size < config.train.batch_size:
        console.line(
            f"train.batch_size {config.train.batch_size} shrinks to {batch_size}: there are "
            f"{len(train_videos)} training videos, and a batch holds no video twice"
        )
    plan = BatchPlan(
        pc.list_value_length(train_videos["captions"]).to_pylist(), batch_size, config.train.seed
    )
    num_steps = config.train.num_steps or config.train.num_epochs * plan.batches_per_epoch
    tracker.log_params(
        {
            "data.num_videos_train": len(train_videos),
            "data.num_captions_train": plan.num_pairs,
            "data.num_videos_bad": len(decoded.bad),
            "train.num_steps_resolved": num_steps,
            "train.batch_size_resolved": batch_size,
        }
    )
    feed = Feed(
        frames_paths=train_videos["frames_path"].to_pylist(),
        num_available=train_videos["num_frames"].to_pylist(),
        captions=train_videos["captions"].to_pylist(),
        batch_size=batch_size,
        num_frames=config.data.num_frames,
        image_size=clip_image_size(config.model),
        augment=config.data.augment,
        seed=config.train.seed,
        world_size=config.train.num_workers,
        num_steps=num_steps,
    )
    job = TrainingJob(
        config=config,
        videos=decoded.videos,
        num_steps=num_steps,
        run_dir=str(run_dir),
        tracking_uri=tracker.uri,
        run_id=tracker.run_id,
        board=start_board(),
    )
    from xpool_platform.train.fit import fit  # noqa: PLC0415  # torch: imported beside Ray's start

    return RetrievalReport(**fit(job, feed, console))


def _folder(config: ExperimentConfig) -> Path:
    if not config.data.root:
        raise UserError(
            "data.root is empty; give the folder of your videos and captions.csv: --data.root PATH"
        )
    return Path(config.data.root)


def _decode(config: ExperimentConfig, output_dir: Path, console: Console) -> DecodedManifest:
    """All videos in the frame cache."""
    if config.data.source == "shapes":
        with console.stage("corpus") as stage:
            root = make_shapes(config.data.shapes, output_dir / "corpora", stage)
    else:
        root = _folder(config)
    manifest = hold_out_validation(folder_manifest(root), config.data, config.train.seed)
    with console.stage("decoding") as stage:
        return decode_manifest(manifest, config.data, output_dir / "frames", stage)


def _check_splits(config: ExperimentConfig, videos: pa.Table) -> None:
    there = set(videos["split"].to_pylist())
    for split, field in (
        ("train", ""),
        (config.train.select_on, "train.select_on"),
        (config.eval.split, "eval.split"),
    ):
        if split not in there:
            raise UserError(
                f"{field or 'training'} needs videos of the split {split!r} and the data has only "
                f"{', '.join(sorted(there))}; name it in the split column of captions.csv"
                + (", or set --data.val-fraction 0.1" if split == "val" else "")
                + (f", or set --{field.replace('_', '-')} train" if field else "")
            )


def _record(tracker: Tracker, config: ExperimentConfig, run_dir: Path) -> None:
    """What was run, and where."""
    path = run_dir / "config.json"
    write_config(config, path)
    tracker.log_params(flatten(config))
    tracker.log_artifact(path)
    cluster = ray.cluster_resources()
    tags = {
        "experiment": config.name,
        "pooling": config.model.pooling,
        "command": shlex.join(sys.argv),
        "ray.version": ray.__version__,
        "cluster.nodes": str(sum(node["Alive"] for node in ray.nodes())),
        "cluster.cpus": f"{cluster.get('CPU', 0):g}",
        "cluster.gpus": f"{cluster.get('GPU', 0):g}",
        "run_dir": str(run_dir),
    }
    tracker.set_tags(tags | _git_tags())


def _git_tags() -> dict[str, str]:
    git = shutil.which("git")
    if git is None:
        return {}

    def ask(*arguments: str) -> str | None:
        folder = Path(__file__).parent
        done = subprocess.run(
            [git, *arguments], cwd=folder, capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    if commit is None:
        return {}
    return {"git.commit": commit, "git.clean": str(not ask("status", "--porcelain")).lower()}


def _new_run_name(config: ExperimentConfig) -> str:
    return f"{config.name}-{config.model.pooling}-{datetime.now():%Y%m%d-%H%M%S}"
