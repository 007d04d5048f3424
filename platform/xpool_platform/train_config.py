"""The training of an experiment."""

from dataclasses import dataclass
from typing import Literal

from xpool_platform.config_checks import at_least

Split = Literal["train", "val", "test"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """How training runs. The result does not depend on the number of workers."""

    num_workers: int = 1
    """Training workers; the global batch is shared among them."""

    cpus_per_worker: float = 1.0
    """CPUs that a worker reserves; it computes with max(1, this) threads."""

    use_gpu: bool = False
    """A GPU for each worker, with bfloat16 autocast in the towers."""

    gpus_per_worker: float = 1.0
    """With use_gpu: the share of a GPU that a worker reserves; below 1 for trainings that share it,
    each with one worker. Its memory is not divided."""

    compile: bool = False
    """Whether torch.compile compiles the towers: minutes at the start, faster steps on GPUs."""

    checkpoint_activations: bool = False
    """Whether the towers' layers are computed again in the backward pass, for less memory."""

    tf32: bool = True
    """Whether matrix products of the training step that are in float32 use TF32 on GPUs."""

    batch_size: int = 32
    """(video, caption) pairs of the global batch; no two of them share a video."""

    micro_batch_size: int | None = None
    """Pairs that a worker takes through the towers at once, for less memory; empty: its share."""

    num_epochs: int = 5
    """Passes over all (video, caption) pairs."""

    num_steps: int | None = None
    """Optimiser steps in all; overrides num_epochs."""

    evals_per_run: int = 10
    """Evaluations for selection, evenly spaced, the last at the end."""

    evals_per_epoch: int | None = None
    """Evaluations in each pass over the pairs; overrides evals_per_run."""

    eval_workers: int = 0
    """Workers of their own, as the training's, that evaluate beside it; 0: it waits meanwhile."""

    patience: int | None = None
    """Evaluations in a row without a better score after which training ends; empty: it goes on."""

    select_mean_of: int = 1
    """Evaluations whose mean t2v R@1 decides, the newest among them; the paper's code takes 5."""

    select_on: Split = "val"
    """The split whose t2v R@1 chooses the best checkpoint; `test` is the paper's way, and said."""

    seed: int = 24
    """Seed of the weights, the batches, the frames and the crops."""

    checkpoint_steps: int = 500
    """Steps after which a checkpoint is written, besides those of the evaluations."""

    keep_last: int = 1
    """Newest checkpoints that are kept."""

    keep_best: int = 1
    """Checkpoints of the best scores that are kept."""

    checkpoints_dir: str = ""
    """Where checkpoints go: a folder or a URI as s3://bucket/runs; empty: the run's folder."""

    min_workers: int = 1
    """Workers with which training goes on after nodes were lost, until they are back."""

    max_failures: int = 3
    """Failures in a row, without a checkpoint between, after which the job gives up."""

    step_timeout_s: float = 600.0
    """Seconds without a step after which a worker is taken for hanging and is replaced."""

    on_nan: Literal["stop", "skip"] = "stop"
    """Whether a loss that is no number ends the run, or its step is left out and counted."""

    def __post_init__(self) -> None:
        at_least("train", self, 1, "num_workers", "batch_size", "num_epochs", "evals_per_run")
        at_least("train", self, 1, "select_mean_of")
        at_least("train", self, 1, "checkpoint_steps", "keep_last", "keep_best", "min_workers")
        at_least("train", self, 0, "seed", "max_failures", "eval_workers")
        if not self.step_timeout_s > 0:
            raise ValueError(f"train.step_timeout_s must be above 0, not {self.step_timeout_s}")
        if self.min_workers > self.num_workers:
            raise ValueError(
                f"train.min_workers {self.min_workers} are more than train.num_workers "
                f"{self.num_workers}"
            )
        if self.micro_batch_size is not None:
            at_least("train", self, 1, "micro_batch_size")
        for name in ("num_steps", "evals_per_epoch", "patience"):
            if getattr(self, name) is not None:
                at_least("train", self, 1, name)
        if not self.cpus_per_worker > 0:
            raise ValueError(f"train.cpus_per_worker must be above 0, not {self.cpus_per_worker}")
        if not (0 < self.gpus_per_worker <= 1):
            raise ValueError(
                f"train.gpus_per_worker must be above 0 and at most 1, not {self.gpus_per_worker}"
            )
        if self.use_gpu and self.gpus_per_worker < 1 and self.num_workers > 1:
            raise ValueError(
                f"train.gpus_per_worker {self.gpus_per_worker:g} could put the "
                f"{self.num_workers} workers of train.num_workers on one GPU, where NCCL refuses "
                "to connect them; set --train.num-workers 1 or --train.gpus-per-worker 1"
            )
        if self.num_workers > self.batch_size:
            raise ValueError(
                f"train.num_workers {self.num_workers} leaves workers without a pair of a batch of "
                f"{self.batch_size}; set train.num_workers to at most train.batch_size"
            )
        if self.batch_size % self.num_workers:
            workers, size = self.num_workers, self.batch_size
            divisors = [n for n in range(1, size + 1) if size % n == 0]
            below = max(n for n in divisors if n < workers)
            above = min(n for n in divisors if n > workers)
            raise ValueError(
                f"train.num_workers {workers} does not divide train.batch_size {size}, and the "
                f"workers with fewer pairs would wait for the others; set train.num_workers to "
                f"{below} or {above}, or train.batch_size to {size // workers * workers} or "
                f"{(size // workers + 1) * workers}"
            )
