"""A whole training from the driver: checks, corpus, decoding, workers, report."""

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from xpool.clip_names import clip_image_size
from xpool_platform.checkpoint_files import best_checkpoint, checkpoints_of, find_checkpoint
from xpool_platform.cluster_check import check_cluster
from xpool_platform.config import ExperimentConfig, TrainingConfig
from xpool_platform.config_io import as_kind, flatten
from xpool_platform.console import Console
from xpool_platform.data.decode import DecodedManifest
from xpool_platform.data.feed import Feed
from xpool_platform.data.plan import BatchPlan
from xpool_platform.interrupted_run import interrupted_run_dir, recorded_run
from xpool_platform.network_check import check_network
from xpool_platform.preflight import (
    check_learning,
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
from xpool_platform.pretrained_weights import check_towers
from xpool_platform.progress import Follower, start_board
from xpool_platform.report import RetrievalReport
from xpool_platform.result_files import RANKS
from xpool_platform.run_inputs import dataset_records
from xpool_platform.run_lease import new_run_lease, run_lease
from xpool_platform.run_model import run_model
from xpool_platform.run_page import record_page
from xpool_platform.run_record import new_run_dir, open_store, record_start, run_ended
from xpool_platform.runtime import ray_session
from xpool_platform.tracking.tracker import Tracker
from xpool_platform.train.job import TrainingJob, evaluation_steps
from xpool_platform.train.places import checked_folder
from xpool_platform.train.run_folder import RunFolder
from xpool_platform.training_command import WHERE, training_command


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingResult:
    """What a training leaves behind."""

    report: RetrievalReport
    run_name: str
    run_dir: Path
    tracking_uri: str
    experiment_id: str
    """Of MLflow's experiment; empty where it is not known."""

    run_id: str


def run_training(options: TrainingConfig, console: Console) -> TrainingResult:
    """Train an experiment, or go on with one that was interrupted, and report on it.

    Raises UserError for what the user can put right, before any training where it can be known by
    then. The MLflow run ends as FINISHED, FAILED or, after Ctrl-C or SIGTERM, as KILLED.
    """
    resume = options.resume
    config = with_absolute_paths(as_kind(options, ExperimentConfig), goes_on=bool(resume))
    check_towers(config.model)
    check_learning(config)
    config = _with_found_weights(config)
    output_dir = prepare_output_dir(config)
    # raylets of one machine replace each other's copy of a job's folder, and this one's with it
    os.chdir(output_dir)
    manifest = own_manifest(config)
    if resume:
        run_dir = interrupted_run_dir(resume, output_dir)
        lease = run_lease(run_dir)
    else:
        run_dir = new_run_dir(config, output_dir / "runs")
        lease = new_run_lease(run_dir)
    opening = open_store(
        config, output_dir, then_import="xpool_platform.train.fit", may_be_away=bool(resume)
    )
    with lease, ray_session():
        check_cluster(config)
        folder = checked_folder(config, run_dir)
        store = opening.result()
        check_network()
        if resume:
            tracker = store.resume_run(recorded_run(run_dir), run_dir, console.line)
        else:
            tracker = store.start_run(run_dir.name, run_dir, console.line)
        with run_ended(tracker):
            if resume:
                tracker.set_tags({"resumed": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"})
            else:
                record_start(tracker, config, run_dir)
            if manifest is None:
                manifest = made_manifest(config, output_dir, console)
            wanted = splits_of_training(config)
            check_splits(manifest, wanted)
            decoded = decode_videos(
                manifest, config, run_dir=run_dir, tracker=tracker, console=console
            )
            check_splits(decoded.videos, wanted)
            report = train_decoded(
                config,
                decoded,
                num_missing=len(missing_videos(manifest, decoded, config.eval.split)),
                run_dir=run_dir,
                tracker=tracker,
                goes_on=bool(resume),
                console=console,
                folder=folder,
            )
            assert report is not None
            if options.register:
                tracker.register(options.register, RANKS)
    return TrainingResult(
        report=report,
        run_name=run_dir.name,
        run_dir=run_dir,
        tracking_uri=tracker.uri,
        experiment_id=tracker.experiment_id,
        run_id=tracker.run_id,
    )


def splits_of_training(config: ExperimentConfig) -> dict[str, str]:
    """The splits that a training needs, by what asks for them."""
    return {
        "training": "train",
        "train.select_on": config.train.select_on,
        "eval.split": config.eval.split,
    }


def train_decoded(
    config: ExperimentConfig,
    decoded: DecodedManifest,
    *,
    num_missing: int,
    run_dir: Path,
    tracker: Tracker,
    goes_on: bool,
    console: Console,
    follower: Follower | None = None,
    until_step: int | None = None,
    folder: RunFolder | None = None,
) -> RetrievalReport | None:
    """Train on videos that are decoded, within Ray's session and the run's lease; the report.

    Of the reported split num_missing videos could not be decoded. The follower is called in this
    thread. After until_step, one with an evaluation, the training stands still and there is no
    report: called again with `goes_on` it goes on. `folder` is given where workers do not see
    run_dir.
    """
    videos, towers = decoded.videos, ""
    if _embeds_are_cached(config):
        from xpool_platform.train.embed import embed_once  # noqa: PLC0415  # torch

        wanted = sorted(set(splits_of_training(config).values()))
        needed = pc.is_in(videos["split"], pa.array(wanted))
        videos, towers = embed_once(videos.filter(needed), config, console)
    train_videos = videos.filter(pc.equal(videos["split"], "train"))
    plan, batch_size = _planned(config, videos), planned_batch_size(config, videos)
    if batch_size < config.train.batch_size:
        console.line(
            f"train.batch_size {config.train.batch_size} shrinks to {batch_size}: there are "
            f"{len(train_videos)} training videos, and a batch holds no video twice"
        )
    num_steps, num_evals = _num_steps(config, plan), _num_evals(config, plan)
    tracker.log_inputs(dataset_records(videos, config, set(splits_of_training(config).values())))
    tracker.log_params(
        {
            "data.num_videos_train": len(train_videos),
            "data.num_captions_train": plan.num_pairs,
            "data.embeddings_cached": bool(towers),
            "data.num_videos_bad": len(decoded.bad),
            "data.hours_train": round(pc.sum(train_videos["duration_s"]).as_py() / 3600, 3),
            "train.num_steps_resolved": num_steps,
            "train.batch_size_resolved": batch_size,
        }
    )
    feed = Feed(
        frames_uris=train_videos["frame_embeds_uri" if towers else "frames_uri"].to_pylist(),
        text_embeds_uris=train_videos["text_embeds_uri"].to_pylist() if towers else None,
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
        videos=videos,
        towers=towers,
        num_steps=num_steps,
        num_evals=num_evals,
        until_step=until_step,
        num_missing=num_missing,
        run_dir=str(run_dir),
        folder=folder,
        checkpoints=checkpoints_of(config, run_dir),
        goes_on=goes_on,
        tracking_uri=tracker.uri,
        run_id=tracker.run_id,
        board=start_board(),
    )
    # torch: imported beside Ray's start
    from xpool_platform.train.fit import train_to_the_end  # noqa: PLC0415

    done = train_to_the_end(job, feed, console, follower)
    if done is None:
        return None
    report = RetrievalReport(**done)
    command = training_command(config, {}, without=WHERE)
    record_page(
        report,
        config=config,
        command=command,
        videos=decoded.videos,
        bad=decoded.bad,
        run_dir=run_dir,
        tracker=tracker,
    )
    if config.tracking.log_checkpoints:
        found = best_checkpoint(checkpoints_of(config, run_dir))
        params = flatten(config)
        reported = decoded.of_split(config.eval.split).videos
        tracker.log_model(run_model(config, report, reported, checkpoint=found, params=params))
    return report


def planned_batch_size(config: ExperimentConfig, videos: pa.Table) -> int:
    """Pairs of a batch: train.batch_size, or fewer where there are fewer training videos."""
    num_videos = pc.sum(pc.equal(videos["split"], "train")).as_py()
    return min(config.train.batch_size, num_videos)


def evaluated_steps(config: ExperimentConfig, videos: pa.Table) -> list[int]:
    """After which steps a training on these videos evaluates; the last is its end."""
    plan = _planned(config, videos)
    return evaluation_steps(_num_steps(config, plan), _num_evals(config, plan))


def _planned(config: ExperimentConfig, videos: pa.Table) -> BatchPlan:
    train = videos.filter(pc.equal(videos["split"], "train"))
    captions = pc.list_value_length(train["captions"]).to_pylist()
    return BatchPlan(captions, planned_batch_size(config, videos), config.train.seed)


def _num_steps(config: ExperimentConfig, plan: BatchPlan) -> int:
    return config.train.num_steps or config.train.num_epochs * plan.batches_per_epoch


def _num_evals(config: ExperimentConfig, plan: BatchPlan) -> int:
    if config.train.evals_per_epoch is None:
        return config.train.evals_per_run
    epochs = _num_steps(config, plan) / plan.batches_per_epoch
    return round(config.train.evals_per_epoch * epochs) or 1


def _with_found_weights(config: ExperimentConfig) -> ExperimentConfig:
    if not config.init_from:
        return config
    found = find_checkpoint(config.init_from, Path(config.output_dir), option="--init-from")
    return replace(config, init_from=found)


def _embeds_are_cached(config: ExperimentConfig) -> bool:
    data = config.data
    frozen = config.optim.clip_lr == 0 and not data.augment
    return frozen and data.cache_embeds and data.cache == "frames"
