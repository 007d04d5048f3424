"""What a sweep varies: how it is written, and what is refused before anything runs."""

import pytest

from xpool_platform.config_io import flatten
from xpool_platform.experiments import EXPERIMENTS, experiment, shapes
from xpool_platform.sweeps import sweep_of
from xpool_platform.tune.distributions import (
    Choice,
    Grid,
    LogUniform,
    RandInt,
    Uniform,
    parse_distribution,
)
from xpool_platform.tune.space import (
    parse_space,
    read_space,
    with_values,
    write_space,
)


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ("choice(4, 8, 12)", Choice((4, 8, 12))),
        ("choice('xpool', 'mean')", Choice(("xpool", "mean"))),
        ("grid(None, 0.07)", Grid((None, 0.07))),
        (" uniform(0, 0.5) ", Uniform(0, 0.5)),
        ("loguniform(1e-6, 1e-4)", LogUniform(1e-6, 1e-4)),
        ("randint(4, 16)", RandInt(4, 16)),
    ],
)
def test_a_distribution_is_what_its_text_says(text, distribution):
    assert parse_distribution(text) == distribution
    assert parse_distribution(str(distribution)) == distribution


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0.01, 0.2", "is no distribution"),
        ("loguniform", "is no distribution"),
        ("loguniform(low=1, high=2)", "is no distribution"),
        ("__import__('os').system('true')", "is no distribution"),
        ("choice(open('x'))", "is no distribution"),
        ("normal(0, 1)", "'normal' is none of choice, grid"),
        ("choice()", "nothing to choose from"),
        ("choice(4, 4)", "has a value twice"),
        ("choice([4, 8])", "values that no field takes"),
        ("uniform(1)", "should have two numbers"),
        ("uniform(1, 'a')", "should have two numbers"),
        ("uniform(True, 2)", "should have two numbers"),
        ("uniform(2, 1)", "the smaller number first"),
        ("uniform(1, 1)", "the smaller number first"),
        ("uniform(0, 1e999)", "should have two numbers"),
        ("loguniform(0, 1)", "numbers above 0"),
        ("randint(1, 2.5)", "whole numbers"),
    ],
)
def test_what_is_no_distribution_says_so(text, words):
    with pytest.raises(ValueError, match=words):
        parse_distribution(text)


@pytest.mark.parametrize(
    ("field", "text", "words"),
    [
        ("loss.temprature", "uniform(0.01, 1)", "did you mean loss.temperature"),
        ("nothing.at_all", "uniform(0.01, 1)", "there is no field 'nothing.at_all'"),
        ("eval.split", "choice('test', 'val')", "all trials of a sweep share 'eval.split'"),
        ("run_name", "choice('a', 'b')", "share 'run_name'"),
        ("data.short_side", "choice(32, 48)", "share 'data.short_side'; give it a value"),
        ("train.num_workers", "choice(1, 2)", "share 'train.num_workers'"),
        ("loss.temperature", "loguniform(0.001, 0.2)", "at least 0.01"),
        ("data.num_frames", "randint(0, 4)", "data.num_frames must be at least 1"),
        ("data.num_frames", "uniform(1, 4)", "gives fractions"),
        ("data.num_frames", "choice(4, 8.5)", "8.5 is not a whole number"),
        ("data.augment", "choice(0, 1)", "0 is not True or False"),
        ("model.pooling", "choice('xpool', 'max')", "'max' is not one of 'xpool', 'mean'"),
        ("model.dropout", "uniform(0, 1)", r"model.dropout must be in \[0, 1\)"),
        ("train.num_steps", "choice('many', 3)", "'many' is not a whole number or empty"),
        ("optim.clip_lr", "loguniform(0.1)", "space.optim.clip_lr: .* two numbers"),
    ],
)
def test_a_field_that_does_not_take_it(field, text, words):
    with pytest.raises(ValueError, match=words):
        parse_space({field: text}, shapes())


def test_nothing_to_vary():
    with pytest.raises(ValueError, match="nothing to vary"):
        parse_space({}, shapes())


@pytest.mark.parametrize("name", sorted(EXPERIMENTS))
def test_the_sweep_of_every_experiment_chooses_on_held_out_videos(name, tmp_path):
    config, texts = sweep_of(name)
    space = parse_space(texts, config)
    assert {"loss.temperature", "data.num_frames"} < set(space)
    assert len(space) == 3
    assert config.train.select_on in ("val", "train")
    assert experiment(name).data.source == config.data.source
    write_space(space, tmp_path / "space.yaml")
    assert parse_space(read_space(tmp_path / "space.yaml"), config) == space


def test_other_values_leave_the_rest_as_it_is():
    before = shapes()
    after = with_values(before, {"data.num_frames": 4, "data.shapes.num_train": 7, "name": "x"})
    changed = {key for key, value in flatten(after).items() if value != flatten(before)[key]}
    assert changed == {"data.num_frames", "data.shapes.num_train", "name"}


@pytest.mark.parametrize("content", ["- a\n", "a: 3\n", "a: [", "\xff"])
def test_a_file_that_is_no_space(tmp_path, content):
    (tmp_path / "space.yaml").write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match="space_file"):
        read_space(tmp_path / "space.yaml")
    with pytest.raises(ValueError, match="cannot be read"):
        read_space(tmp_path / "none.yaml")
