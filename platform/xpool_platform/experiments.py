"""The experiments by name: plain functions that return a whole config."""

import difflib
from collections.abc import Callable

from xpool.config import LossConfig, ModelConfig, OptimConfig
from xpool_platform.config import DataConfig, EvalConfig, ExperimentConfig, TrainConfig
from xpool_platform.errors import UserError


def shapes() -> ExperimentConfig:
    """Tiny towers on videos that it makes itself: minutes on two CPU cores."""
    return ExperimentConfig(
        name="shapes",
        data=DataConfig(source="shapes", short_side=48, augment=False),  # captions tell sizes
        model=ModelConfig(clip_name="tiny", dropout=0.0),
        loss=LossConfig(temperature=0.07),
        optim=OptimConfig(clip_lr=1e-3, pooling_lr=1e-3),
        train=TrainConfig(
            num_workers=2, cpus_per_worker=0.5, batch_size=32, num_steps=700, evals_per_run=5
        ),
    )


def clips() -> ExperimentConfig:
    """Tiny towers on your own folder (--data.root): does the pipeline take it, can it be learnt?

    Without a split column all captions train and the training captions are what is reported.
    """
    return ExperimentConfig(
        name="clips",
        data=DataConfig(source="folder", short_side=48, max_bad_fraction=0.01),
        model=ModelConfig(clip_name="tiny", dropout=0.0),
        loss=LossConfig(temperature=0.07),
        optim=OptimConfig(clip_lr=1e-3, pooling_lr=1e-3),
        train=TrainConfig(
            num_workers=2,
            cpus_per_worker=0.5,
            batch_size=32,
            num_steps=200,
            evals_per_run=2,
            select_on="train",
        ),
        eval=EvalConfig(split="train"),
    )


def videos() -> ExperimentConfig:
    """The paper's recipe on your own folder (--data.root) with a split column, on GPUs."""
    return ExperimentConfig(
        name="videos",
        data=DataConfig(source="folder"),
        model=ModelConfig(clip_name="ViT-B-32", clip_pretrained="openai"),
        train=TrainConfig(num_workers=1, use_gpu=True, batch_size=32, num_epochs=5),
    )


EXPERIMENTS: dict[str, Callable[[], ExperimentConfig]] = {
    function.__name__: function for function in (shapes, clips, videos)
}


def experiment(name: str) -> ExperimentConfig:
    """The config of an experiment; an unknown name is a UserError with the nearest one."""
    if name not in EXPERIMENTS:
        close = difflib.get_close_matches(name, EXPERIMENTS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UserError(f"unknown experiment {name!r}: {hint}there are {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]()
