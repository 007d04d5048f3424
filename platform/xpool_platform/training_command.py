"""The command that trains what a run trained, or a trial, or its winner anew."""

import shlex
from collections.abc import Collection, Mapping
from typing import Any

from xpool_platform.config import ExperimentConfig
from xpool_platform.config_io import flatten
from xpool_platform.experiments import experiment

WHERE = (
    *("run_name", "output_dir", "tracking.uri", "tracking.experiment"),
    "tracking.log_checkpoints",
)
"""Fields that decide nothing of what is trained."""

SHORTENED = (
    *("train.num_steps", "train.num_epochs", "train.select_on", "train.select_mean_of"),
    *("train.evals_per_run", "train.evals_per_epoch", "run_name"),
)
"""Fields that a sweep may have shortened, and that its winner gets from the experiment."""


def training_command(
    config: ExperimentConfig, values: Mapping[str, Any], *, without: Collection[str] = ()
) -> str:
    """With the config's fields that the experiment has otherwise, but for some, and the values."""
    own = flatten(experiment(config.name))
    given = {
        name: value
        for name, value in flatten(config).items()
        if value != own.get(name) and name not in without
    }
    options = [
        f"--{name.replace('_', '-')} {shlex.quote(str(value))}"
        for name, value in (given | dict(values)).items()
    ]
    return " ".join(["python jobs/train.py", config.name, *options])
