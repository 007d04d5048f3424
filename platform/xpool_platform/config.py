"""One experiment, whole: data, model, loss, optimiser, training, evaluation, tracking."""

from dataclasses import dataclass, field
from typing import Literal

from xpool.config import LossConfig, ModelConfig, OptimConfig

Split = Literal["train", "val", "test"]


def _at_least(section: str, values: object, minimum: float, *names: str) -> None:
    for name in names:
        value = getattr(values, name)
        if not value >= minimum:
            raise ValueError(f"{section}.{name} must be at least {minimum}, not {value}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ShapesConfig:
    """The corpus that `shapes` makes: videos of three scenes, a caption for each scene."""

    num_train: int = 1200
    """Training videos."""

    num_val: int = 100
    """Validation videos."""

    num_test: int = 200
    """Test videos, at most 298: no two of them share a scene."""

    frame_size: int = 64
    """Pixels a side, an even number."""

    frames_per_scene: int = 12
    """Frames of each of the three scenes, at 12 frames a second."""

    seed: int = 0
    """Seed of the whole corpus."""

    def __post_init__(self) -> None:
        _at_least("data.shapes", self, 1, "num_train", "num_val", "num_test", "frames_per_scene")
        _at_least("data.shapes", self, 16, "frame_size")
        if self.frame_size % 2:
            raise ValueError(f"data.shapes.frame_size must be even, not {self.frame_size}")
        for name in ("num_val", "num_test"):
            if getattr(self, name) > 298:
                raise ValueError(
                    f"data.shapes.{name} must be at most 298, since no two videos of a held-out "
                    f"split share a scene, not {getattr(self, name)}"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Where videos and captions come from and how they are decoded."""

    source: Literal["shapes", "folder", "msrvtt", "msvd", "lsmdc", "activitynet"] = "folder"
    """`shapes` makes its own videos, `folder` takes yours; the others are benchmarks."""

    root: str = ""
    """The videos' folder; `folder` finds captions.csv, .tsv, .jsonl, .parquet or .txt in it."""

    annotations: str = ""
    """File of video,caption[,split,start_s,end_s,video_id]; a benchmark's folder; empty: root."""

    msrvtt_train: Literal["9k", "7k"] = "9k"
    """Training list of MSR-VTT: 9,000 or 7,010 videos; both are tested on 1k-A."""

    shapes: ShapesConfig = field(default_factory=ShapesConfig)
    """The corpus of the source `shapes`."""

    val_fraction: float = 0.0
    """Share of the training videos held out for validation where the data names no val split."""

    num_frames: int = 12
    """Frames that the model sees of each video."""

    frames_per_second: float = 3.0
    """Frames kept of each second of video; of a short one as many as num_frames need, or all."""

    short_side: int = 224
    """Pixels of the short side of the kept frames; smaller videos are enlarged."""

    jpeg_quality: int = 90
    """Quality of the kept frames, which are JPEG files, from 1 to 100."""

    cache: Literal["frames", "none"] = "frames"
    """`frames` keeps the frames of a video once it is decoded; `none` decodes it at each use."""

    frames_dir: str = ""
    """Where frames are kept: a folder, or a URI as s3://bucket/frames; empty: output_dir/frames."""

    augment: bool = True
    """Whether training crops and flips clips at random; off, it sees them as evaluation does."""

    cache_embeds: bool = True
    """Whether towers that do not learn (optim.clip_lr 0, no augment) embed everything once."""

    decoder: Literal["pyav", "decord"] = "pyav"
    """`pyav` is exact and strict; `decord` is there for those who want its pixels."""

    decode_deadline_s: float = 120.0
    """Seconds after which the decoding of one video is given up."""

    decode_memory_bytes: int = 4 * 2**30
    """Address space of the process that decodes."""

    decode_cpus: float = 1.0
    """CPUs that each decoding or loading task reserves on the cluster."""

    max_bad_fraction: float = 0.01
    """Share of the videos that may fail to decode before the job stops."""

    def __post_init__(self) -> None:
        _at_least("data", self, 1, "num_frames", "short_side")
        for name in ("frames_per_second", "decode_deadline_s", "decode_cpus"):
            if not getattr(self, name) > 0:
                raise ValueError(f"data.{name} must be above 0, not {getattr(self, name)}")
        _at_least("data", self, 2**28, "decode_memory_bytes")
        if not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"data.jpeg_quality must be from 1 to 100, not {self.jpeg_quality}")
        if not 0 <= self.val_fraction < 1:
            raise ValueError(f"data.val_fraction must be in [0, 1), not {self.val_fraction}")
        if not 0 <= self.max_bad_fraction <= 1:
            raise ValueError(
                f"data.max_bad_fraction must be in [0, 1], not {self.max_bad_fraction}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """How training runs. The result does not depend on the number of workers."""

    num_workers: int = 1
    """Training workers; the global batch is shared among them."""

    cpus_per_worker: float = 1.0
    """CPUs that a worker reserves; it computes with max(1, this) threads."""

    use_gpu: bool = False
    """One GPU for each worker, with bfloat16 autocast in the towers."""

    batch_size: int = 32
    """(video, caption) pairs of the global batch; no two of them share a video."""

    num_epochs: int = 5
    """Passes over all (video, caption) pairs."""

    num_steps: int | None = None
    """Optimiser steps in all; overrides num_epochs."""

    evals_per_run: int = 10
    """Evaluations for selection, evenly spaced, the last at the end."""

    select_mean_of: int = 1
    """Evaluations whose mean t2v R@1 decides, the newest among them; the paper's code takes 5."""

    select_on: Split = "val"
    """The split whose t2v R@1 chooses the best checkpoint; `test` is the paper's way, and said."""

    seed: int = 24
    """Seed of the weights, the batches, the frames and the crops."""

    def __post_init__(self) -> None:
        _at_least("train", self, 1, "num_workers", "batch_size", "num_epochs", "evals_per_run")
        _at_least("train", self, 1, "select_mean_of")
        _at_least("train", self, 0, "seed")
        if self.num_steps is not None:
            _at_least("train", self, 1, "num_steps")
        if not self.cpus_per_worker > 0:
            raise ValueError(f"train.cpus_per_worker must be above 0, not {self.cpus_per_worker}")
        if self.num_workers > self.batch_size:
            raise ValueError(
                f"train.num_workers {self.num_workers} leaves workers without a pair of a batch of "
                f"{self.batch_size}; set train.num_workers to at most train.batch_size"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalConfig:
    """What the table at the end reports."""

    split: Split = "test"
    """The split that is reported."""

    batch_size: int = 32
    """Videos encoded at once on each worker."""

    num_resamples: int = 1000
    """Bootstrap resamples of the 95 % intervals."""

    num_figures: int = 4
    """Captions whose attention over their video's frames is drawn."""

    allow_missing: bool = False
    """Whether to report on a split of which some videos cannot be decoded, and say how many."""

    def __post_init__(self) -> None:
        _at_least("eval", self, 1, "batch_size", "num_resamples")
        _at_least("eval", self, 0, "num_figures")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackingConfig:
    """Where the run is recorded."""

    uri: str = ""
    """MLflow's tracking URI; empty: a SQLite file in the output folder."""

    experiment: str = ""
    """MLflow's experiment; empty: the name of this project's experiment."""

    log_checkpoints: bool = True
    """Whether the best and the last checkpoint are copied to MLflow's artifacts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExperimentConfig:
    """A whole experiment. Each part has its own options."""

    name: str = ""
    """Name of the experiment."""

    run_name: str = ""
    """Name of the run, a new one; empty: made from the experiment, the pooling and the time."""

    output_dir: str = ""
    """Where corpora, decoded frames, runs and MLflow's file go; empty: `outputs`."""

    data: DataConfig = field(default_factory=DataConfig)
    """Videos and captions."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """Towers and pooling."""

    loss: LossConfig = field(default_factory=LossConfig)
    """The loss."""

    optim: OptimConfig = field(default_factory=OptimConfig)
    """The optimiser."""

    train: TrainConfig = field(default_factory=TrainConfig)
    """The training."""

    eval: EvalConfig = field(default_factory=EvalConfig)
    """The evaluation."""

    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """The record of the run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig(ExperimentConfig):
    """What is evaluated, on the data and the split of an experiment."""

    checkpoint: str = ""
    """A run (its best), a checkpoint's folder, a .pth file of the authors; empty: zero-shot."""

    against: str = ""
    """Another run or evaluation to test the difference against: a name, folder or ranks.parquet."""

    num_bank_captions: int = 5000
    """Training captions in the query bank of QB-Norm, drawn with train.seed; 0 leaves it out."""

    save_scores: bool = False
    """Whether to keep the whole score matrix, as scores.npy."""

    into_training_run: bool = False
    """Whether to record in the training run of the checkpoint rather than in a run of its own."""

    def __post_init__(self) -> None:
        if self.num_bank_captions < 0:
            raise ValueError(f"num_bank_captions must be at least 0, not {self.num_bank_captions}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparationConfig(ExperimentConfig):
    """An experiment whose videos are decoded ahead."""

    unused_days: float = 30.0
    """With --prune: days without use after which a frame store is removed."""

    def __post_init__(self) -> None:
        if not self.unused_days >= 0:
            raise ValueError(f"unused_days must be at least 0, not {self.unused_days}")
