"""A whole sweep from the driver: checks, decoding once, trials on Ray Tune, the winner."""

import os
import time
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from ray import tune

from xpool_platform.config import ExperimentConfig
from xpool_platform.config_io import as_kind
from xpool_platform.console import Console
from xpool_platform.data.plan import BatchPlan
from xpool_platform.errors import UserError
from xpool_platform.interrupted_run import is_unused, recorded_run
from xpool_platform.network_check import check_network
from xpool_platform.preflight import (
    check_cluster,
    check_learning,
    check_model,
    prepare_output_dir,
    with_absolute_paths,
)
from xpool_platform.prepare import (
    check_splits,
    decode_videos,
    made_manifest,
    missing_videos,
    own_manifest,
)
from xpool_platform.report import RetrievalReport
from xpool_platform.run_lease import new_run_lease, run_lease
from xpool_platform.run_record import open_store, record_start, run_ended
from xpool_platform.runtime import ray_session
from xpool_platform.storage_check import check_storage
from xpool_platform.sweep_config import SweepConfig
from xpool_platform.tracking.tracker import Tracker
from xpool_platform.train.capacity import room_for_trainings
from xpool_platform.train.launch import splits_of_training
from xpool_platform.tune.console_of_trials import ConsoleOfTrials
from xpool_platform.tune.ending import end_sweep, retraining_command
from xpool_platform.tune.search import check_search, domains, schedule, search_algorithm
from xpool_platform.tune.space import Space
from xpool_platform.tune.sweep_files import TRIALS, sweep_dir, write_sweep
from xpool_platform.tune.trial import Sweep, trainable
from xpool_platform.tune.trial_record import TrialRecord, TrialRecords


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepResult:
    """What a sweep leaves behind."""

    name: str
    folder: Path
    best: list[TrialRecord]
    """The best trials, five at most, the best first."""

    metric: str
    """What they are compared by."""

    report: RetrievalReport
    """The winner on the split of eval.split."""

    retrain: str
    """The command that trains it with the whole schedule."""

    tracking_uri: str


def run_sweep(options: SweepConfig, space: Space, console: Console) -> SweepResult:
    """Vary fields of an experiment, or go on with a sweep that was interrupted.

    Raises UserError for what the user can put right, before any trial where that is known by then.
    """
    config = with_absolute_paths(options)
    check_search(config, space)
    check_model(config)
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
        check_network(store.uri)
        check_storage({"output_dir": str(folder)})
        at_once = _trials_at_once(config, console)
        if config.resume:
            tracker = store.resume_run(recorded_run(folder))
        else:
            tracker = store.start_run(name)
            write_sweep(config, space, folder)
        with run_ended(tracker):
            if not config.resume:
                record_start(tracker, as_kind(config, ExperimentConfig), folder)
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
            _run_trials(sweep, config, space, at_once, console)
            best, report = end_sweep(
                sweep,
                config=config,
                manifest=manifest,
                space=space,
                store=store,
                tracker=tracker,
                console=console,
            )
    return SweepResult(
        name=name,
        folder=folder,
        best=best,
        metric=sweep.metric,
        report=report,
        retrain=retraining_command(sweep, best[0]),
        tracking_uri=tracker.uri,
    )


def _trials_at_once(config: SweepConfig, console: Console) -> int:
    room = room_for_trainings(config)
    at_once = min(room, config.max_concurrent or room)
    console.line(
        f"{at_once} trials at once, each {config.train.num_workers} workers and "
        f"{config.data.decode_cpus:g} CPUs for loading; the cluster has room for {room}"
    )
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
    on_validation = replace(config, eval=replace(config.eval, split=config.train.select_on))
    trials = as_kind(on_validation, ExperimentConfig)
    wanted = splits_of_training(config) | splits_of_training(trials)
    check_splits(manifest, wanted)
    frames = [config.data.num_frames]
    if "data.num_frames" in space:
        frames = [int(str(value)) for value in space["data.num_frames"].extremes]
    largest = replace(config, data=replace(config.data, num_frames=max(frames)))
    decoded = decode_videos(manifest, largest, run_dir=folder, tracker=tracker, console=console)
    check_splits(decoded.videos, wanted)
    output_dir = Path(config.output_dir)
    return Sweep(
        name=name,
        config=trials,
        decoded=decoded,
        num_missing=len(missing_videos(manifest, decoded, config.train.select_on)),
        records=str(folder / TRIALS),
        runs=str(output_dir / "runs"),
        tracking_uri=tracker.uri,
        tracking_experiment=config.tracking.experiment or config.name,
        artifacts=str(output_dir / "mlartifacts"),
        parent_run_id=tracker.run_id,
        began_s=time.time(),
    )


def _run_trials(
    sweep: Sweep, config: SweepConfig, space: Space, at_once: int, console: Console
) -> None:
    """All trials, by Ray Tune; what they were is in their records."""
    os.environ.update(TUNE_ENVIRONMENT)
    records = TrialRecords(Path(sweep.records))
    begun = [record.values for record in records.all()]
    search, num_trials = search_algorithm(
        config, space, metric=sweep.metric, begun=begun, max_concurrent=at_once
    )
    num_pairs, grace_pairs = _pairs(sweep.config, sweep.decoded.videos, config.grace_evals)
    rule = schedule(config, metric=sweep.metric, num_pairs=num_pairs, grace_pairs=grace_pairs)
    with console.stage("trials") as stage:
        shown = ConsoleOfTrials(records, sweep.metric, num_trials, config.max_failed_trials, stage)
        results = tune.Tuner(
            trainable(sweep),
            param_space={} if config.search == "optuna" else domains(space),
            tune_config=tune.TuneConfig(
                search_alg=search,
                scheduler=rule,
                num_samples=num_trials,
            ),
            run_config=tune.RunConfig(
                name=f"{RAY_FILES}{time.time_ns():x}",
                storage_path=str(Path(sweep.records).parent),
                callbacks=[shown],
                stop=shown,
                verbose=0,
            ),
        ).fit()
    del results  # all that is needed is in the records
    failed = [record for record in records.all() if record.status == "FAILED"]
    if len(failed) > config.max_failed_trials:
        raise UserError(
            f"{len(failed)} trials failed, more than max_failed_trials {config.max_failed_trials}; "
            f"the last: {failed[-1].name}, {failed[-1].reason}"
        )


TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
"""Interrupts stay with the job, and records are ours."""

RAY_FILES = "ray_tune-"


def _pairs(config: ExperimentConfig, videos: pa.Table, grace_evals: int) -> tuple[int, int]:
    """Pairs that a whole training sees, and by the evaluation that no trial is ended before."""
    train = videos.filter(pc.equal(videos["split"], "train"))
    size = min(config.train.batch_size, len(train))
    captions = pc.list_value_length(train["captions"]).to_pylist()
    per_epoch = BatchPlan(captions, size, config.train.seed).batches_per_epoch
    num_steps = config.train.num_steps or config.train.num_epochs * per_epoch
    evals = config.train.evals_per_run
    if config.train.evals_per_epoch is not None:
        evals = round(config.train.evals_per_epoch * num_steps / per_epoch) or 1
    first = round(num_steps * min(grace_evals, evals) / min(evals, num_steps))
    return num_steps * size, first * size
