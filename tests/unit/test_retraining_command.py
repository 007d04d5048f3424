"""The command that a sweep gives for its winner."""

import shlex
from dataclasses import replace

import pytest

from command_line import parse, split_name
from xpool_platform.config import TrainingConfig
from xpool_platform.config_io import as_kind, flatten
from xpool_platform.experiments import experiment
from xpool_platform.sweep_config import SweepConfig
from xpool_platform.sweeps import sweep_of
from xpool_platform.tune.ending import retraining_command
from xpool_platform.tune.trial_record import TrialRecord

SHORTENED = ("--train.num-steps", "10", "--train.evals-per-run", "2")


@pytest.mark.parametrize(
    ("name", "options", "values"),
    [
        ("shapes", (), {"loss.temperature": 0.0246, "optim.clip_lr": 7e-4, "data.num_frames": 4}),
        ("shapes", SHORTENED, {"model.pooling": "mean"}),
        ("shapes", ("--train.batch-size", "8"), {"train.batch_size": 16}),
        ("msrvtt_9k_val", ("--data.root", "/videos of mine"), {"loss.temperature": 0.03}),
    ],
)
def test_it_trains_the_winner_on_the_experiments_own_schedule(name, options, values):
    config = parse("", list(options), sweep_of(name)[0])
    assert isinstance(config, SweepConfig)
    winner = TrialRecord(index=0, name="sweep-000", values=values)
    python, script, *arguments = shlex.split(retraining_command(config, experiment(name), winner))
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
    winner = TrialRecord(index=0, name="mine-000", values={"optim.clip_lr": 1e-3})
    command = retraining_command(config, experiment("shapes"), winner)
    assert command == "python jobs/train.py shapes --optim.clip-lr 0.001"
