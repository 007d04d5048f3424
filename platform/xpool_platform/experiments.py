"""The experiments by name: plain functions that return a whole config."""

import difflib
from collections.abc import Callable
from dataclasses import replace

from xpool.config import LossConfig, ModelConfig, OptimConfig
from xpool_platform.config import EvalConfig, ExperimentConfig
from xpool_platform.data_config import DataConfig
from xpool_platform.errors import UserError
from xpool_platform.train_config import TrainConfig


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
        eval=EvalConfig(split="train", allow_missing=True),
    )


def videos() -> ExperimentConfig:
    """The paper's recipe on your own folder (--data.root) with a split column, on GPUs."""
    return ExperimentConfig(
        name="videos",
        data=DataConfig(source="folder"),
        model=ModelConfig(clip_name="ViT-B-32", clip_pretrained="openai"),
        train=TrainConfig(num_workers=1, use_gpu=True, batch_size=32, num_epochs=5),
    )


def msrvtt_9k() -> ExperimentConfig:
    """MSR-VTT, 9,000 training videos, tested on 1k-A: the paper's recipe, its selection included.

    It selects on the test split every tenth of an epoch, as the authors' code does.
    """
    return _of_the_paper(
        "msrvtt_9k", DataConfig(source="msrvtt", msrvtt_train="9k"), dropout=0.3, pooling_lr=3e-5
    )


def msrvtt_7k() -> ExperimentConfig:
    """MSR-VTT, 7,010 training videos, tested on 1k-A: the paper's recipe, selection included."""
    return _of_the_paper("msrvtt_7k", DataConfig(source="msrvtt", msrvtt_train="7k"), dropout=0.4)


def msvd() -> ExperimentConfig:
    """MSVD, 1,200 training videos: the paper's recipe, its selection on the test split included."""
    return _of_the_paper("msvd", DataConfig(source="msvd"), dropout=0.4)


def lsmdc() -> ExperimentConfig:
    """LSMDC, 1,000 test pairs: the paper's recipe, its selection on the test split included."""
    return _of_the_paper("lsmdc", DataConfig(source="lsmdc"), dropout=0.3)


def msrvtt_9k_val() -> ExperimentConfig:
    """As msrvtt_9k, but selected on a twentieth of the training videos, held out."""
    return _selected_on_val(msrvtt_9k(), val_fraction=0.05)


def msrvtt_7k_val() -> ExperimentConfig:
    """As msrvtt_7k, but selected on a twentieth of the training videos, held out."""
    return _selected_on_val(msrvtt_7k(), val_fraction=0.05)


def msvd_val() -> ExperimentConfig:
    """As msvd, but selected on the validation split."""
    return _selected_on_val(msvd())


def lsmdc_val() -> ExperimentConfig:
    """As lsmdc, but selected on the validation split."""
    return _selected_on_val(lsmdc())


def activitynet() -> ExperimentConfig:
    """ActivityNet, paragraphs to videos, by the paper's recipe: X-Pool reports no figures on it.

    Selected on a twentieth of the training videos, held out. CLIP reads the first 77 tokens of a
    paragraph.
    """
    config = _of_the_paper("activitynet", DataConfig(source="activitynet"), dropout=0.3)
    return replace(_selected_on_val(config, val_fraction=0.05), name="activitynet")


def _of_the_paper(
    name: str, data: DataConfig, *, dropout: float, pooling_lr: float = 1e-5
) -> ExperimentConfig:
    """Gorti et al. 2022, section 4.1, and the authors' code where the paper is silent."""
    return ExperimentConfig(
        name=name,
        data=data,
        model=ModelConfig(clip_name="ViT-B-32", clip_pretrained="openai", dropout=dropout),
        optim=OptimConfig(pooling_lr=pooling_lr),
        train=TrainConfig(
            use_gpu=True,
            batch_size=32,
            num_epochs=5,
            evals_per_run=50,
            select_mean_of=5,
            select_on="test",
            seed=24,
        ),
    )


def _selected_on_val(config: ExperimentConfig, val_fraction: float = 0.0) -> ExperimentConfig:
    """The honest variant: the test split is seen once, at the end."""
    return replace(
        config,
        name=f"{config.name}_val",
        data=replace(config.data, val_fraction=val_fraction),
        train=replace(config.train, select_on="val", select_mean_of=1, evals_per_run=10),
    )


EXPERIMENTS: dict[str, Callable[[], ExperimentConfig]] = {
    function.__name__: function
    for function in (
        shapes,
        clips,
        videos,
        msrvtt_9k,
        msrvtt_9k_val,
        msrvtt_7k,
        msrvtt_7k_val,
        msvd,
        msvd_val,
        lsmdc,
        lsmdc_val,
        activitynet,
    )
}


def experiment(name: str) -> ExperimentConfig:
    """The config of an experiment; an unknown name is a UserError with the nearest one."""
    if name not in EXPERIMENTS:
        close = difflib.get_close_matches(name, EXPERIMENTS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UserError(f"unknown experiment {name!r}: {hint}there are {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]()
