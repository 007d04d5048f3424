import dataclasses

import pytest

from xpool.config import LossConfig, ModelConfig, OptimConfig
from xpool_platform.config import EvalConfig, EvaluationConfig, ExperimentConfig
from xpool_platform.config_io import flatten, read_config, write_config
from xpool_platform.data_config import DataConfig, ShapesConfig
from xpool_platform.errors import UserError
from xpool_platform.experiments import EXPERIMENTS, experiment
from xpool_platform.train_config import TrainConfig


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_survives_being_written(name, tmp_path):
    config = experiment(name)
    write_config(config, tmp_path / "config.json")
    assert read_config(tmp_path / "config.json") == config


def test_a_config_of_another_version_is_an_error(tmp_path):
    path = tmp_path / "config.json"
    write_config(experiment("shapes"), path)
    path.write_text(path.read_text().replace('"clip_lr"', '"clip_learning_rate"'))
    with pytest.raises(ValueError, match="clip_learning_rate"):
        read_config(path)


def test_flat_names_are_dotted_and_complete():
    flat = flatten(experiment("shapes"))
    assert flat["optim.pooling_lr"] == 1e-3
    assert flat["data.shapes.num_test"] == 200
    assert flat["name"] == "shapes"


def test_an_unknown_experiment_is_named_with_the_nearest():
    with pytest.raises(UserError, match=r"unknown experiment 'shape': did you mean 'shapes'\?"):
        experiment("shape")


@pytest.mark.parametrize(
    ("name", "dropout", "pooling_lr"),
    [
        ("msrvtt_9k", 0.3, 3e-5),
        ("msrvtt_7k", 0.4, 1e-5),
        ("msvd", 0.4, 1e-5),
        ("lsmdc", 0.3, 1e-5),
    ],
)
def test_the_recipe_of_the_paper_and_its_honest_variant(name, dropout, pooling_lr):
    config, honest = experiment(name), experiment(f"{name}_val")
    assert (config.name, honest.name) == (name, f"{name}_val")
    assert (config.model.clip_name, config.model.clip_pretrained) == ("ViT-B-32", "openai")
    assert (config.model.dropout, config.optim.pooling_lr) == (dropout, pooling_lr)
    assert (config.optim.clip_lr, config.optim.weight_decay, config.optim.eps) == (1e-6, 0.2, 1e-6)
    assert (config.data.num_frames, config.train.batch_size) == (12, 32)
    assert (config.train.num_epochs, config.train.evals_per_run) == (5, 50)
    assert (config.train.select_on, config.train.select_mean_of) == ("test", 5)
    assert (honest.train.select_on, honest.train.select_mean_of) == ("val", 1)
    assert (honest.model, honest.optim) == (config.model, config.optim)
    assert (honest.data.val_fraction > 0) == name.startswith("msrvtt")


@pytest.mark.parametrize(
    ("num_workers", "batch_size", "ways"),
    [(3, 32, "2 or 4, or train.batch_size to 30 or 33"), (8, 12, "6 or 12, .* to 8 or 16")],
)
def test_workers_that_do_not_divide_the_batch(num_workers, batch_size, ways):
    with pytest.raises(ValueError, match=f"does not divide train.batch_size.* to {ways}"):
        TrainConfig(num_workers=num_workers, batch_size=batch_size)


def test_activitynet_has_the_recipe_and_does_not_select_on_the_test_split():
    config, other = experiment("activitynet"), experiment("msrvtt_9k_val")
    assert (config.name, config.data.source) == ("activitynet", "activitynet")
    assert (config.train, config.data.val_fraction) == (other.train, 0.05)
    assert (config.train.select_on, config.eval.split) == ("val", "test")


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (ModelConfig, "num_heads", 0),
        (ModelConfig, "dropout", 1.0),
        (ModelConfig, "top_k", 0),
        (ModelConfig, "softmax_temperature", 0.0),
        (LossConfig, "temperature", 0.001),
        (OptimConfig, "clip_lr", -1e-6),
        (OptimConfig, "eps", 0.0),
        (OptimConfig, "warmup_fraction", 1.5),
        (ShapesConfig, "num_test", 299),
        (ShapesConfig, "frame_size", 33),
        (DataConfig, "num_frames", 0),
        (DataConfig, "frames_per_second", 0.0),
        (DataConfig, "max_bad_fraction", 1.1),
        (DataConfig, "val_fraction", 1.0),
        (TrainConfig, "batch_size", 0),
        (TrainConfig, "num_workers", 33),
        (TrainConfig, "num_steps", 0),
        (TrainConfig, "select_mean_of", 0),
        (EvaluationConfig, "num_bank_captions", -1),
        (TrainConfig, "cpus_per_worker", 0.0),
        (EvalConfig, "num_resamples", 0),
        (OptimConfig, "clip_lr", float("nan")),
    ],
)
def test_a_value_out_of_range_names_field_and_value(kind, field, value):
    with pytest.raises(ValueError, match=field) as caught:
        kind(**{field: value})
    assert str(value) in str(caught.value)


def test_every_field_is_described():
    """They are the --help; Python keeps no docstrings of fields, so the source is read."""
    import ast
    import inspect

    import xpool.config
    import xpool_platform.config

    for module in (xpool.config, xpool_platform.config):
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.ClassDef):
                for line, following in zip(node.body, [*node.body[1:], None], strict=True):
                    if isinstance(line, ast.AnnAssign):
                        described = isinstance(following, ast.Expr)
                        assert described, f"{node.name}.{ast.unparse(line.target)}"
    assert dataclasses.is_dataclass(ExperimentConfig)
