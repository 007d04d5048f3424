"""One experiment, whole: data, model, loss, optimiser, training, evaluation, tracking."""

from dataclasses import dataclass, field

from xpool.config import LossConfig, ModelConfig, OptimConfig
from xpool_platform.config_checks import at_least
from xpool_platform.data_config import DataConfig
from xpool_platform.train_config import Split, TrainConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalConfig:
    """What the table at the end reports."""

    split: Split = "test"
    """The split that is reported."""

    batch_size: int = 32
    """Videos encoded at once on each worker."""

    num_resamples: int = 1000
    """Bootstrap resamples of the 95 % intervals."""

    num_figures: int = 12
    """Captions whose attention over their video's frames is drawn; 0: no figures at all."""

    allow_missing: bool = False
    """Whether to report on a split of which some videos cannot be decoded, and say how many."""

    def __post_init__(self) -> None:
        at_least("eval", self, 1, "batch_size", "num_resamples")
        at_least("eval", self, 0, "num_figures")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackingConfig:
    """Where the run is recorded."""

    uri: str = ""
    """MLflow's tracking URI; empty: a SQLite file in the output folder."""

    experiment: str = ""
    """MLflow's experiment; empty: the name of this project's experiment."""

    log_checkpoints: bool = True
    """Whether MLflow gets the best and the last checkpoint, and the best as a model to load."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExperimentConfig:
    """A whole experiment. Each part has its own options."""

    name: str = ""
    """Name of the experiment."""

    run_name: str = ""
    """Name of the run, a new one; empty: made from the experiment, the pooling and the time."""

    output_dir: str = ""
    """Where corpora, decoded frames, runs and MLflow's file go; empty: `outputs`."""

    init_from: str = ""
    """Checkpoint whose weights training begins with: a run or a file; empty: the towers' own."""

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
class TrainingConfig(ExperimentConfig):
    """An experiment that is trained."""

    resume: str = ""
    """Name of a run that was interrupted, to go on with; its config is its own."""

    register: str = ""
    """Name under which MLflow's model registry gets the best model; empty: it does not."""

    def __post_init__(self) -> None:
        if self.register and not self.tracking.log_checkpoints:
            raise ValueError(
                f"register {self.register!r} needs tracking.log_checkpoints True: the registry "
                "takes a model that the run has"
            )


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

    figures: bool = False
    """Whether to draw the figures where eval.num_figures is 0, as well."""

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
