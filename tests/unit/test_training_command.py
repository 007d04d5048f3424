"""The command that a sweep gives for its winner."""

import shlex
from dataclasses import replace

import pytest

from command_line import parse, split_name
from xpool_platform.config import ExperimentConfig, TrainingConfig
from xpool_platform.config_io import as_kind, flatten
from xpool_platform.experiments import experiment
from xpool_platform.sweep_config import SweepConfig
from xpool_platform.sweeps import sweep_of
from xpool_platform.training_command import SHORTENED, training_command

SHORTENED_OPTIONS = ("--train.num-steps", "10", "--train.evals-per-run", "2")


@pytest.mark.parametrize(
    ("name", "options", "values"),
    [
        ("shapes", (), {"loss.temperature": 0.0246, "optim.clip_lr": 7e-4, "data.num_frames": 4}),
        ("shapes", SHORTENED_OPTIONS, {"model.pooling": "mean"}),
        ("shapes", ("--train.batch-size", "8"), {"train.batch_size": 16}),
        ("msrvtt_9k_val", ("--data.root", "/videos of mine"), {"loss.temperature": 0.03}),
    ],
)
def test_it_trains_the_winner_on_the_experiments_own_schedule(name, options, values):
    config = parse("", list(options), sweep_of(name)[0])
    assert isinstance(config, SweepConfig)
    training = as_kind(config, ExperimentConfig)
    command = training_command(training, values, without=SHORTENED)
    python, script, *arguments = shlex.split(command)
    assert (python, script) == ("python", "jobs/train.py")
    found, given = split_name(arguments)
    assert found == name
    trained = flatten(parse("", given, as_kind(experiment(name), TrainingConfig)))
    wanted = flatten(as_kind(experiment(name), TrainingConfig)) | values
    wanted |= {"data.root": config.data.root}
    if "train.batch_size" in values:
        wanted |= {"train.batch_size": 16}
    assert trained == wanted


def test_what_the_sweep_did_not_change_is_left_out():
    config = replace(sweep_of("shapes")[0], run_name="mine")
    training = as_kind(config, ExperimentConfig)
    command = training_command(training, {"optim.clip_lr": 1e-3}, without=SHORTENED)
    assert command == "python jobs/train.py shapes --optim.clip-lr 0.001"


def test_a_trial_can_be_trained_by_itself():
    config = parse("", list(SHORTENED_OPTIONS), sweep_of("shapes")[0])
    values = {"optim.clip_lr": 1e-3, "model.pooling": "mean"}
    _, _, _, *given = shlex.split(training_command(as_kind(config, ExperimentConfig), values))
    trained = flatten(parse("", given, as_kind(experiment("shapes"), TrainingConfig)))
    assert trained == flatten(as_kind(config, TrainingConfig)) | values
