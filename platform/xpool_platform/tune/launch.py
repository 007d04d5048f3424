"""A whole sweep from the driver: checks, decoding once, trials on Ray Tune, the winner."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from xpool_platform.cluster_check import check_cluster
from xpool_platform.config import ExperimentConfig
from xpool_platform.config_io import as_kind
from xpool_platform.console import Console
from xpool_platform.errors import UserError
from xpool_platform.interrupted_run import is_unused, recorded_run
from xpool_platform.network_check import check_network
from xpool_platform.preflight import (
    check_learning,
    prepare_output_dir,
    with_absolute_paths,
)
from xpool_platform.prepare import (
    check_splits,
    decode_videos,
    frames_dir,
    made_manifest,
    missing_videos,
    own_manifest,
)
from xpool_platform.pretrained_weights import check_towers
from xpool_platform.report import RetrievalReport
from xpool_platform.run_lease import new_run_lease, run_lease
from xpool_platform.run_record import open_store, record_start, run_ended
from xpool_platform.runtime import ray_session
from xpool_platform.storage_check import check_seen, check_storage
from xpool_platform.sweep_config import SweepConfig
from xpool_platform.tracking.tracker import Tracker
from xpool_platform.train.capacity import room_for_trainings
from xpool_platform.train.launch import planned_batch_size, splits_of_training
from xpool_platform.tune.ending import end_sweep
from xpool_platform.tune.ranking import Ranking
from xpool_platform.tune.search import check_search
from xpool_platform.tune.space import Space
from xpool_platform.tune.sweep_files import FINISHED, TRIALS, sweep_dir, write_sweep
from xpool_platform.tune.trial import Sweep
from xpool_platform.tune.trial_record import TrialRecord, TrialRecords
from xpool_platform.tune.trials import Trials

if TYPE_CHECKING:
    from xpool_platform.tracking.mlflow_store import MlflowStore


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepResult:
    """What a sweep leaves behind."""

    name: str
    folder: Path
    best: list[TrialRecord]
    """The best trials, five at most, the best first."""

    ranking: Ranking
    """How they are compared."""

    report: RetrievalReport
    """The winner on the split of eval.split."""

    tracking_uri: str
    experiment_id: str
    """Of MLflow's experiment; empty where it is not known."""

    run_id: str


def run_sweep(options: SweepConfig, space: Space, console: Console) -> SweepResult:
    """Vary fields of an experiment, or go on with a sweep that was interrupted.

    Raises UserError for what the user can put right, before any trial where that is known by then.
    """
    config = with_absolute_paths(options, goes_on=bool(options.resume))
    check_search(config, space)
    check_towers(config.model)
    check_learning(config)
    if config.train.select_on == "test":
        raise UserError(
            "train.select_on is 'test', and a sweep that chooses on the test split would tune on "
            "it; set --train.select-on val"
        )
    output_dir = prepare_output_dir(config)
    # raylets of one machine replace each other's copy of a job's folder, and this one's with it
    os.chdir(output_dir)
    manifest = own_manifest(config)
    name = config.resume or config.run_name or f"{config.name}-sweep-{datetime.now():%Y%m%d-%H%M%S}"
    folder = sweep_dir(name, output_dir)
    if not config.resume and not is_unused(folder):
        raise UserError(
            f"run_name {name!r} is used already, in {folder}; choose another --run-name, or go on "
            f"by --resume {name}"
        )
    lease = run_lease(folder) if config.resume else new_run_lease(folder)
    opening = open_store(config, output_dir, then_import="xpool_platform.tune.trial")
    with lease, ray_session():
        check_cluster(config)
        store = opening.result()
        check_network()
        check_seen(config)
        check_storage({"output_dir": str(folder), "data.frames_dir": frames_dir(config)})
        at_once = _trials_at_once(config, console)
        if config.resume:
            tracker = store.resume_run(recorded_run(folder), folder, console.line)
        else:
            tracker = store.start_run(name, folder, console.line)
            write_sweep(config, space, folder)
        with run_ended(tracker):
            if not config.resume:
                record_start(tracker, as_kind(config, ExperimentConfig), folder, varied=space)
                drawn = {f"space.{field}": str(each) for field, each in space.items()}
                own = {key: getattr(config, key) for key in ("search", "scheduler", "num_trials")}
                tracker.log_params(drawn | {f"sweep.{key}": value for key, value in own.items()})
            if manifest is None:
                manifest = made_manifest(config, output_dir, console)
            sweep = _prepared(
                config,
                manifest=manifest,
                space=space,
                name=name,
                folder=folder,
                tracker=tracker,
                console=console,
            )
            with _trials_ended(sweep, store, console):
                Trials(sweep, config, space, store=store, console=console).run(at_once)
            best, report = end_sweep(
                sweep,
                config=config,
                manifest=manifest,
                space=space,
                store=store,
                tracker=tracker,
                console=console,
            )
        (folder / FINISHED).touch()
    return SweepResult(
        name=name,
        folder=folder,
        best=best,
        ranking=Ranking.of(config),
        report=report,
        tracking_uri=tracker.uri,
        experiment_id=tracker.experiment_id,
        run_id=tracker.run_id,
    )


def _trials_at_once(config: SweepConfig, console: Console) -> int:
    room = room_for_trainings(config)
    at_once = min(room, config.max_concurrent or room)
    train = config.train
    gpus = f", {train.num_workers * train.gpus_per_worker:g} GPUs" if train.use_gpu else ""
    console.line(
        f"{at_once} {'trial' if at_once == 1 else 'trials'} at a time, each with "
        f"{train.num_workers * train.cpus_per_worker:g} CPUs to train{gpus} and "
        f"{config.data.decode_cpus:g} to load; the cluster has room for {room}"
    )
    if config.max_concurrent and config.max_concurrent > room:
        console.line(f"max_concurrent {config.max_concurrent} is more than that")
    return at_once


def _prepared(
    config: SweepConfig,
    *,
    manifest: pa.Table,
    space: Space,
    name: str,
    folder: Path,
    tracker: Tracker,
    console: Console,
) -> Sweep:
    """What all trials share, the videos decoded for the largest frame count among it."""
    on_validation = replace(
        config,
        eval=replace(config.eval, split=config.train.select_on),
        # MLflow gets the winner's; those of the others are with their runs on disk
        tracking=replace(config.tracking, log_checkpoints=False),
    )
    trials = as_kind(on_validation, ExperimentConfig)
    wanted = splits_of_training(config) | splits_of_training(trials)
    check_splits(manifest, wanted)
    frames = [config.data.num_frames]
    if "data.num_frames" in space:
        frames = [int(str(value)) for value in space["data.num_frames"].extremes]
    largest = replace(config, data=replace(config.data, num_frames=max(frames)))
    decoded = decode_videos(manifest, largest, run_dir=folder, tracker=tracker, console=console)
    check_splits(decoded.videos, wanted)
    output_dir, records = Path(config.output_dir), TrialRecords(folder / TRIALS)
    known = [each.seconds for record in records.all() for each in record.evaluations]
    return Sweep(
        name=name,
        config=trials,
        decoded=decoded,
        batch_size=planned_batch_size(trials, decoded.videos),
        num_missing=len(missing_videos(manifest, decoded, config.train.select_on)),
        records=str(folder / TRIALS),
        runs=str(output_dir / "runs"),
        tracking_uri=tracker.uri,
        tracking_experiment=config.tracking.experiment or config.name,
        artifacts=str(output_dir / "mlartifacts"),
        parent_run_id=tracker.run_id,
        began_s=time.time() - max(known, default=0.0),
    )


@contextmanager
def _trials_ended(sweep: Sweep, store: "MlflowStore", console: Console) -> Iterator[None]:
    """Of trials that an end of the sweep interrupts, no run stays RUNNING."""
    try:
        yield
    except BaseException:
        with suppress(UserError):  # a run that is gone must not hide why the sweep ended
            for record in TrialRecords(Path(sweep.records)).all():
                if record.status == "RUNNING" and record.run_id:
                    run_dir = Path(sweep.runs, record.name)
                    store.open_run(record.run_id, run_dir, console.line).finish("KILLED")
        console.line(f"python jobs/tune.py --resume {sweep.name} goes on from here")
        raise
