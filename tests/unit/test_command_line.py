import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import option_value, parse, parse_options, split_name, split_positionals
from xpool_platform.config import EvaluationConfig, ExperimentConfig
from xpool_platform.config_io import as_kind
from xpool_platform.errors import UserError
from xpool_platform.experiments import clips, experiment, shapes
from xpool_platform.search.config import SearchConfig


def config_of(*arguments: str) -> ExperimentConfig:
    name, options = split_name(list(arguments))
    return parse("Train.", options, experiment(name or "shapes"))


def test_the_default_experiment():
    assert config_of() == shapes()


def test_an_experiment_by_name_with_changes():
    config = config_of("clips", "--data.root", "videos", "--optim.pooling-lr=0.5")
    assert config.data.root == "videos"
    assert config.optim.pooling_lr == 0.5
    assert config.model == clips().model


def test_underscores_and_values_that_look_like_options_are_taken():
    assert config_of("--train.num_steps", "5").train.num_steps == 5
    assert config_of("--train.num-steps", "None").train.num_steps is None
    assert config_of("--data.augment", "False").data.augment is False


def test_an_unknown_experiment():
    with pytest.raises(UserError, match="did you mean 'clips'"):
        config_of("clip")


def test_an_unknown_option():
    with pytest.raises(
        UserError, match=r"no option --optim\.clp-lr: did you mean --optim\.clip-lr"
    ):
        config_of("--optim.clp-lr", "1")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--train.batch-size", "0"), "train.batch_size must be at least 1, not 0"),
        (("--model.dropout", "1.5"), "model.dropout must be in [0, 1), not 1.5"),
        (("--data.shapes.num-test", "500"), "data.shapes.num_test must be at most 298"),
        (("--train.num-steps", "ten"), "--train.num-steps: no type matching"),
        (("--model.pooling", "max"), "invalid choice 'max' for argument '--model.pooling'"),
        (("--train.num-steps",), "Missing value for argument '--train.num-steps'"),
        (("shapes", "stray"), "Unrecognized options: stray"),
    ],
)
def test_a_bad_value_is_one_sentence(arguments, sentence):
    with pytest.raises(UserError) as caught:
        config_of(*arguments)
    assert str(caught.value).startswith(sentence)
    assert "│" not in str(caught.value)


def test_help_describes_the_fields(capsys):
    with pytest.raises(SystemExit) as caught:
        config_of("--help")
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for words in (
        "--optim.pooling-lr",
        "Peak learning rate of the CLIP towers",
        "shapes, clips, videos",
    ):
        assert words in text


def test_a_value_can_be_asked_for_before_parsing():
    for arguments in (["--run_name", "a"], ["--x", "1", "--run-name=a"], ["--run-name", "a", "b"]):
        assert option_value(arguments, "--run-name") == "a"
    assert option_value(["--run-name"], "--run-name") is None
    assert option_value(["--run"], "--run-name") is None


@pytest.mark.parametrize("job", ["train", "evaluate", "compare"])
def test_help_into_a_pipe_that_closes_early_is_no_error(job):
    script = Path(__file__).parents[2] / "jobs" / f"{job}.py"
    command = f"{shlex.quote(sys.executable)} {shlex.quote(str(script))} --help | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: ")
    assert done.stderr == ""


def test_a_switch_without_a_value_is_on():
    default = as_kind(experiment("shapes"), EvaluationConfig)
    assert not default.figures
    for options in (["--figures"], ["--figures", "--eval.split", "val"], ["--figures", "True"]):
        assert parse("", options, default).figures
    both = parse("", ["--save_scores", "--figures", "False"], default)
    assert (both.save_scores, both.figures) == (True, False)


@pytest.mark.parametrize(
    ("arguments", "words", "options"),
    [
        ([], [], []),
        (["films", "a dog"], ["films", "a dog"], []),
        (["films", "--k", "5", "a dog"], ["films", "a dog"], ["--k", "5"]),
        (["--k=5", "films", "a dog"], ["films", "a dog"], ["--k=5"]),
        (["--video=a b.mp4", "films"], ["films"], ["--video=a b.mp4"]),
        (["--k", "-1", "films"], ["films"], ["--k", "-1"]),
        (["films", "--json", "a dog"], ["films", "a dog"], ["--json"]),
        (["films", "--json", "True", "a dog"], ["films", "a dog"], ["--json", "True"]),
        (["films", "--json", "False"], ["films"], ["--json", "False"]),
        (["films", "--json=False", "True"], ["films", "True"], ["--json=False"]),
        (["films", "--json", "--k", "5"], ["films"], ["--json", "--k", "5"]),
        (["films", "-"], ["films", "-"], []),
        (["films", "--video", "-"], ["films"], ["--video", "-"]),
        (["films", "--json", "-"], ["films", "-"], ["--json"]),
        (["--k", "5", "--", "films", "--json", "-x"], ["films", "--json", "-x"], ["--k", "5"]),
        (["films", "--json", "--", "a dog"], ["films", "a dog"], ["--json"]),
        (["films", "--k"], ["films"], ["--k"]),
        (["-h", "films"], ["films"], ["-h"]),
        (["--help", "films"], ["films"], ["--help"]),
        (["films", "--no-such", "x"], ["films"], ["--no-such", "x"]),
        (["films", ""], ["films", ""], []),
    ],
)
def test_words_may_stand_anywhere_between_options(arguments, words, options):
    before = list(arguments)
    assert split_positionals(arguments, SearchConfig(index="")) == (words, options)
    assert arguments == before


def test_a_switch_may_be_spelt_with_underscores():
    config = as_kind(experiment("shapes"), EvaluationConfig)
    for spelt in ("--save_scores", "--save-scores"):
        assert split_positionals([spelt, "a"], config) == (["a"], [spelt])
        assert split_positionals([spelt, "True", "a"], config) == (["a"], [spelt, "True"])


def test_the_options_of_a_search_are_parsed_wherever_they_stand():
    arguments = ["films", "--json", "a dog", "--k", "5", "--method=two-stage", "-"]
    words, options = split_positionals(arguments, SearchConfig(index=""))
    example = SearchConfig(index=words[0], sentences=tuple(words[1:]))
    config = parse_options("Search.", options, example)
    assert config == SearchConfig(
        index="films", sentences=("a dog", "-"), json=True, k=5, method="two-stage"
    )
    with pytest.raises(UserError, match="k must be from 1 to 100, not 0"):
        parse_options("Search.", ["--k", "0"], example)
