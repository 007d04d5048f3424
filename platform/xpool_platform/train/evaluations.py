"""The evaluations of a training and what follows: scores, checkpoints, an early end."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager

import torch

from xpool_platform.checkpoint import CheckpointKeeper, copied
from xpool_platform.checkpoint_files import CheckpointState, read_state
from xpool_platform.errors import UserError
from xpool_platform.evaluate.beside import EvaluationBeside
from xpool_platform.evaluate.encode import SplitEmbeds
from xpool_platform.evaluate.measure import split_metrics
from xpool_platform.evaluate.recorded_results import PROGRESS
from xpool_platform.tracking.tracker import Tracker
from xpool_platform.train.collectives import from_rank_zero
from xpool_platform.train.job import TrainingJob, evaluation_steps
from xpool_platform.train.sign_of_life import SignOfLife
from xpool_platform.train.training_state import Learner, random_states

AT_STOP_S = 8.0
"""What an evaluation beside the training gets when the workers are to stop."""


class Evaluations:
    """Scores the split of train.select_on at even distances, the last at the end, and keeps
    checkpoints.

    Every worker has one and calls the same methods after the same steps. Rank 0 alone has a tracker
    and a keeper, and calls `pass_on` before it writes a checkpoint.
    """

    def __init__(
        self,
        job: TrainingJob,
        learner: Learner,
        *,
        device: torch.device,
        encode: Callable[[str], SplitEmbeds],
        life: SignOfLife,
        tracker: Tracker | None,
        keeper: CheckpointKeeper | None,
        pass_on: Callable[[], None],
    ) -> None:
        self._job, self._learner, self._device, self._encode = job, learner, device, encode
        self._life, self._tracker, self._keeper = life, tracker, keeper
        self._pass_on = pass_on
        self._split = job.config.train.select_on
        # the report at the end has the split's own names, also where it is of the same split
        self._prefix = PROGRESS if self._split == job.config.eval.split else ""
        self._after = set(evaluation_steps(job.num_steps, job.num_evals))
        before = read_state(job.resume_from) if job.resume_from else CheckpointState(step=0)
        self._recalls, self._measured = list(before.recalls), list(before.evaluations)
        self._missing = before.evaluation_due
        self._waiting_for = 0
        """The step whose evaluation goes on beside the training; 0: none does."""
        self._beside: EvaluationBeside | None = None
        self._coming: Future[dict[str, float]] | None = None
        if job.evaluates_beside and tracker is not None:
            videos = job.videos_of(self._split)
            self._beside = EvaluationBeside(job.config, videos, on_batch=life.tick)

    @property
    def over(self) -> bool:
        """Whether the last train.patience evaluations have brought no better score."""
        patience = self._job.config.train.patience
        if patience is None or not self._recalls:
            return False
        scores = [self._score(count) for count in range(1, len(self._recalls) + 1)]
        return len(scores) - 1 - scores.index(max(scores)) >= patience

    def due_after(self, step: int) -> bool:
        """Whether there is an evaluation after this step."""
        return step in self._after

    def catch_up(self) -> None:
        """Do the evaluation that was going on when an earlier attempt ended."""
        if self._missing:
            self._evaluate_here(self._job.first_step)

    def evaluate(self, step: int) -> None:
        """Evaluate, here or beside the training, and keep a checkpoint.

        Does neither if the evaluation before, known only now, ends the training. Raises UserError
        if a score is no number.
        """
        self._settle()
        if self.over:
            return
        if self._job.evaluates_beside and step < self._job.num_steps:
            self._write(self._state(step, score=None, evaluation_due=True))
            self._waiting_for = step
            if self._beside is not None:
                self._coming = self._beside.begin(copied(self._learner.model.state_dict()))
        else:
            self._evaluate_here(step)

    def keep(self, step: int, *, stops: bool = False) -> None:
        """Keep a checkpoint that has no score.

        What goes on beside the training ends before, so that no checkpoint lacks an earlier
        score. Workers that stop do not wait long for it: its own checkpoint is then the last.
        """
        if self._settle(within_s=AT_STOP_S if stops else None):
            self._write(self._state(step, score=None))

    def finish(self) -> None:
        """Wait until all is known and written."""
        self._settle()
        if self._beside is not None:
            self._beside.stop()

    def _evaluate_here(self, step: int) -> None:
        with self._life.doing("evaluating"):
            embeds = self._encode(self._split)
        metrics = None
        if self._tracker is not None:
            with self._as_user_error(step):
                resamples = self._job.config.eval.num_resamples
                metrics = split_metrics(
                    self._learner.model.pooling, embeds, num_resamples=resamples
                )
        self._judge(step, metrics)
        self._write(self._state(step, score=self._score(len(self._recalls))))

    def _settle(self, within_s: float | None = None) -> bool:
        """Take the score of what went on beside; whether it was there in time."""
        step = self._waiting_for
        if not step:
            return True
        metrics = None
        if self._coming is not None:
            with (
                self._life.doing("waiting for the evaluation beside the training"),
                self._as_user_error(step),
            ):
                try:
                    metrics = self._coming.result(within_s)
                except TimeoutError:
                    metrics = None
        if within_s is not None and not from_rank_zero(metrics is not None):
            return False
        self._waiting_for, self._coming = 0, None
        self._judge(step, metrics)
        if self._keeper is not None:
            self._keeper.score(self._state(step, score=self._score(len(self._recalls))))
        return True

    def _judge(self, step: int, metrics: Mapping[str, float] | None) -> None:
        """Log the metrics, which rank 0 has, and tell every worker the recall."""
        if self._tracker is not None and metrics is not None:
            named = {f"{self._split}/{key}": value for key, value in metrics.items()}
            self._tracker.log_metrics({step: {f"{self._prefix}{k}": v for k, v in named.items()}})
            self._job.board.evaluated.remote(step, named)
            self._measured.append({"step": step, **named})
        self._recalls.append(from_rank_zero(metrics["t2v/R1"] if metrics is not None else 0.0))

    def _score(self, count: int) -> float:
        """The score after so many evaluations: the mean of the newest train.select_mean_of."""
        newest = self._recalls[:count][-self._job.config.train.select_mean_of :]
        return sum(newest) / len(newest)

    def _state(
        self, step: int, *, score: float | None, evaluation_due: bool = False
    ) -> CheckpointState:
        return CheckpointState(
            step=step,
            score=score,
            run_id=self._job.run_id,
            recalls=list(self._recalls),
            evaluations=list(self._measured),
            evaluation_due=evaluation_due,
        )

    def _write(self, state: CheckpointState) -> None:
        """Begin to write a checkpoint."""
        random = random_states(self._device)
        if self._keeper is not None:
            self._pass_on()  # what goes on from here finds the record of all steps before
            training = self._learner.taken(random)
            self._keeper.add(self._learner.model, self._job.config, state, training)

    @contextmanager
    def _as_user_error(self, step: int) -> Iterator[None]:
        try:
            yield
        except ValueError as error:  # a score that is no number
            raise UserError(
                f"the model cannot be evaluated after step {step}: {error}; lower "
                "--optim.clip-lr and --optim.pooling-lr"
            ) from error
