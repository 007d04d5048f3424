"""A whole evaluation from the driver: checks, the run's record, and the evaluation itself."""

import os
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from xpool_platform.checkpoint_files import (
    CONFIG,
    find_checkpoint,
    is_checkpoint,
    read_checkpoint_config,
    read_state,
)
from xpool_platform.cluster_check import check_cluster
from xpool_platform.config import EvalConfig, EvaluationConfig
from xpool_platform.config_io import write_config
from xpool_platform.console import Console
from xpool_platform.errors import UserError
from xpool_platform.network_check import check_network
from xpool_platform.preflight import (
    prepare_output_dir,
    with_absolute_paths,
)
from xpool_platform.prepare import check_splits, frames_dir, made_manifest, own_manifest
from xpool_platform.pretrained_weights import check_towers
from xpool_platform.result_files import find_ranks
from xpool_platform.run_record import new_run_dir, open_store, record_start, run_ended
from xpool_platform.runtime import ray_session
from xpool_platform.storage_check import check_seen, check_storage

if TYPE_CHECKING:
    from xpool_platform.evaluate.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationResult:
    """What an evaluation leaves behind."""

    evaluation: "Evaluation"
    run_name: str
    run_dir: Path
    """The folder of metrics.json and ranks.parquet."""

    tracking_uri: str
    experiment_id: str
    """Of MLflow's experiment; empty where it is not known."""

    run_id: str


def run_evaluation(config: EvaluationConfig, console: Console) -> EvaluationResult:
    """Evaluate a checkpoint, or the pretrained towers, on a split of an experiment's data.

    Raises UserError for what the user can put right, most of it before Ray starts.
    """
    if config.figures and not config.eval.num_figures:
        config = replace(config, eval=replace(config.eval, num_figures=EvalConfig().num_figures))
    config = _with_found_files(with_absolute_paths(config))
    check_towers(config.model, with_weights=not config.checkpoint)
    training_run = _training_run(config)
    output_dir = prepare_output_dir(config)
    # raylets of one machine replace each other's copy of a job's folder, and this one's with it
    os.chdir(output_dir)
    manifest = own_manifest(config, _needed_splits(config))
    run_dir = new_run_dir(config, output_dir / "evaluations", "evaluation")
    opening = open_store(config, output_dir, then_import="xpool_platform.evaluate.evaluation")
    with ray_session():
        check_cluster(config)
        check_seen(config)
        if config.data.cache == "frames":
            check_storage({"data.frames_dir": frames_dir(config)})
        check_network()
        store = opening.result()
        if training_run:
            tracker = store.open_run(training_run, run_dir, console.line)
            prefix = f"evaluate/{run_dir.name}/"
        else:
            tracker, prefix = store.start_run(run_dir.name, run_dir, console.line), ""
        from xpool_platform.evaluate.evaluation import evaluate  # noqa: PLC0415  # see open_store

        with run_ended(tracker, was_ended=bool(training_run)):
            if training_run:
                write_config(config, run_dir / CONFIG)
            else:
                record_start(tracker, config, run_dir)
                tracker.set_tags({"checkpoint": config.checkpoint or "zero-shot"})
            if manifest is None:
                manifest = made_manifest(config, output_dir, console)
            check_splits(manifest, {"eval.split": config.eval.split})
            evaluation = evaluate(
                config,
                manifest,
                run_dir=run_dir,
                tracker=tracker,
                prefix=prefix,
                command=f"python {shlex.join(sys.argv)}",
                selected_on=_selected_on(config),
                console=console,
            )
    return EvaluationResult(
        evaluation=evaluation,
        run_name=run_dir.name,
        run_dir=run_dir,
        tracking_uri=tracker.uri,
        experiment_id=tracker.experiment_id,
        run_id=tracker.run_id,
    )


def _with_found_files(config: EvaluationConfig) -> EvaluationConfig:
    """The config with the files that it names, absolute."""
    output_dir = Path(config.output_dir)
    if config.checkpoint:
        config = replace(config, checkpoint=find_checkpoint(config.checkpoint, output_dir))
    elif not config.model.clip_pretrained:
        raise UserError(
            f"{config.name} has neither a checkpoint nor pretrained towers, and random ones tell "
            "nothing; give --checkpoint, or --model.clip-pretrained for zero-shot retrieval"
        )
    elif config.model.pooling == "xpool":
        raise UserError(
            "without a checkpoint X-Pool's pooling has learnt nothing; set --model.pooling mean "
            "for zero-shot retrieval, or give --checkpoint"
        )
    if config.against:
        config = replace(config, against=str(find_ranks(config.against, output_dir)))
    return config


def _needed_splits(config: EvaluationConfig) -> set[str]:
    """Those whose videos must be there; validation videos may be taken from the training ones."""
    return {"val", "train"} if config.eval.split == "val" else {config.eval.split}


def _selected_on(config: EvaluationConfig) -> str:
    """The split on which the checkpoint was chosen, where it is known."""
    if not is_checkpoint(config.checkpoint):
        return ""
    return read_checkpoint_config(config.checkpoint).train.select_on


def _training_run(config: EvaluationConfig) -> str:
    """The MLflow run to record in, empty for one of its own."""
    if not config.into_training_run:
        return ""
    own = is_checkpoint(config.checkpoint)
    run_id = read_state(config.checkpoint).run_id if own else ""
    if not run_id:
        raise UserError(
            "into_training_run needs a checkpoint that a training of this project wrote, not "
            f"{config.checkpoint or 'none'!r}; leave --into-training-run out"
        )
    return run_id
