"""What `python jobs/tune.py EXPERIMENT` sweeps unless it is told.

Functions that return a SweepConfig and the texts of its space.
"""

from collections.abc import Callable

from xpool_platform.config_io import as_kind
from xpool_platform.experiments import EXPERIMENTS, experiment, shapes
from xpool_platform.sweep_config import SweepConfig

Sweep = tuple[SweepConfig, dict[str, str]]


def shapes_sweep() -> Sweep:
    """The default experiment: ten minutes on two cores."""
    space = {
        "loss.temperature": "loguniform(0.01, 0.2)",
        "data.num_frames": "choice(4, 8, 12)",
        "optim.clip_lr": "loguniform(1e-4, 1e-2)",
    }
    return as_kind(shapes(), SweepConfig), space


SWEEPS: dict[str, Callable[[], Sweep]] = {"shapes": shapes_sweep}
"""By the experiment's name."""


def sweep_of(name: str) -> Sweep:
    """The sweep of an experiment; of one that selects on the test split, that of its variant with
    held-out training videos. Raises UserError if there is no such experiment.

    Where there is none of its own, the temperature, the frame count and the learning rate vary
    around the experiment's: the rate of the towers where they train from scratch, and else that of
    the pooling.
    """
    if name in SWEEPS:
        return SWEEPS[name]()
    config = experiment(name)
    if config.train.select_on == "test" and f"{name}_val" in EXPERIMENTS:
        config = experiment(f"{name}_val")
    scratch = config.model.clip_name == "tiny"
    rate = "optim.clip_lr" if scratch else "optim.pooling_lr"
    around = config.optim.clip_lr if scratch else config.optim.pooling_lr
    frames = config.data.num_frames
    counts = sorted({-(-frames // 3), -(-frames * 2 // 3), frames})
    space = {
        "loss.temperature": "loguniform(0.01, 0.2)",
        "data.num_frames": f"choice({', '.join(map(str, counts))})",
        rate: f"loguniform({around / 10:g}, {around * 10:g})",
    }
    return as_kind(config, SweepConfig), space
