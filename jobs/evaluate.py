"""Evaluate a checkpoint on a split: python jobs/evaluate.py [EXPERIMENT] --checkpoint RUN [...]

Without an experiment, the data are those of the checkpoint's training. Without a checkpoint, it is
zero-shot retrieval with the pretrained towers: python jobs/evaluate.py EXPERIMENT
--model.pooling mean. The checkpoint is a run's name or folder, a checkpoint's folder, or a .pth
file of X-Pool's authors. The workers are those of --train.num-workers and --train.use-gpu.
"""

import os
import sys
from dataclasses import replace

import source_roots  # first: it puts the packages below on the path
from command_line import option_value, parse, run_job, split_name
from xpool_platform.checkpoint_files import (
    find_checkpoint,
    is_checkpoint,
    read_checkpoint_config,
)
from xpool_platform.config import EvaluationConfig, ExperimentConfig
from xpool_platform.config_io import as_kind
from xpool_platform.errors import UserError
from xpool_platform.experiments import experiment
from xpool_platform.output_dir import resolve_output_dir


def main() -> None:
    """Parse, evaluate, print the tables."""
    name, options = split_name(sys.argv[1:])
    default = _default(name, options)
    config = parse(__doc__ or "", options, default)
    if default.checkpoint:
        config = replace(config, checkpoint=default.checkpoint)  # found once, by the same rule
    # Ray and torch take seconds to import: --help and a mistyped option do not wait for them
    from xpool_platform.console import Console  # noqa: PLC0415
    from xpool_platform.evaluate.launch import run_evaluation  # noqa: PLC0415
    from xpool_platform.tracking.where import how_to_open  # noqa: PLC0415

    console = Console()
    result = run_evaluation(config, console)
    report = result.evaluation.report
    chosen = f"; checkpoint chosen on {report.selected_on}" if report.selected_on else ""
    console.table(report, f"{result.run_name}{chosen}; 95 % bootstrap intervals")
    if result.evaluation.differences:
        console.differences(result.evaluation.differences, config.against)
    console.line(f"results: {result.run_dir}")
    page = result.experiment_id, result.run_id
    console.line(how_to_open(result.tracking_uri, source_roots.ROOT, *page))


def _default(name: str | None, options: list[str]) -> EvaluationConfig:
    """The config before the options: the experiment's data, the checkpoint's model."""
    checkpoint = option_value(options, "--checkpoint")
    path = _found(checkpoint, options) if checkpoint else ""
    trained = read_checkpoint_config(path) if is_checkpoint(path) else None
    if name is None and checkpoint and trained is None:
        raise UserError(
            f"{checkpoint} does not say on what it was trained; name the experiment whose data it "
            "is to be evaluated on: python jobs/evaluate.py EXPERIMENT --checkpoint ..."
        )
    if trained is None:
        return _evaluation(experiment(name or "shapes"), path)
    if name is None:
        there = trained.output_dir
        if "XPOOL_OUTPUT_DIR" in os.environ or not os.access(there, os.W_OK):
            there = ""
        return _evaluation(replace(trained, run_name="", output_dir=there), path)
    config = experiment(name)
    data = replace(
        config.data,
        num_frames=trained.data.num_frames,
        frames_per_second=trained.data.frames_per_second,
        short_side=trained.data.short_side,
        jpeg_quality=trained.data.jpeg_quality,
    )
    return _evaluation(replace(config, data=data, model=trained.model, loss=trained.loss), path)


def _found(checkpoint: str, options: list[str]) -> str:
    output_dir = resolve_output_dir(option_value(options, "--output-dir") or "")
    return find_checkpoint(checkpoint, output_dir)


def _evaluation(config: ExperimentConfig, checkpoint: str) -> EvaluationConfig:
    config = replace(config, init_from="")
    return as_kind(config, EvaluationConfig, checkpoint=checkpoint)


if __name__ == "__main__":
    run_job(main)
