"""What every training worker does, from the first batch to the report."""

import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray.train
import torch
import torch.distributed as dist
from torch import Tensor

from xpool.clip import Tokenizer, build_tokenizer
from xpool.model import XPool, build_model
from xpool.optim import build_optimizer, build_schedule
from xpool_platform.checkpoint import CheckpointKeeper, load_checkpoint
from xpool_platform.checkpoint_files import CheckpointState
from xpool_platform.data.batches import WorkerBatch, worker_batches
from xpool_platform.errors import UserError
from xpool_platform.evaluate.encode import SplitEmbeds, encode_split
from xpool_platform.evaluate.frozen_towers import cached_split, towers_fingerprint
from xpool_platform.evaluate.measure import split_metrics
from xpool_platform.progress import TrainingProgress
from xpool_platform.report import RetrievalReport
from xpool_platform.tracking.tracker import Tracker
from xpool_platform.train.collectives import gather_rows, sum_gradients
from xpool_platform.train.job import TrainingJob
from xpool_platform.train.step import global_batch_loss, loss_of_embeds

STEPS_PER_FLUSH = 10
"""Losses wait on the device for so many steps, so that a step does not wait for the host."""


def train_worker(job: TrainingJob, rows: Iterator[pa.Table]) -> dict[str, Any] | None:
    """Train, keep the best and the last checkpoint, report on the best; rank 0 gives the report."""
    context = ray.train.get_context()
    worker = _Worker(job, context.get_world_rank(), context.get_world_size())
    worker.train(rows)
    report = worker.report()
    return asdict(report) if report is not None else None


class _Worker:
    """The state of one worker. Rank 0 logs and writes; the others only compute."""

    def __init__(self, job: TrainingJob, rank: int, world_size: int) -> None:
        config = job.config
        torch.set_num_threads(max(1, int(config.train.cpus_per_worker)))
        torch.manual_seed(config.train.seed)
        self.job, self.config, self.rank, self.world_size = job, config, rank, world_size
        self.device = ray.train.torch.get_device() if config.train.use_gpu else torch.device("cpu")
        self.tokenizer: Tokenizer = build_tokenizer(config.model)
        self.model: XPool = build_model(config.model, config.loss).to(self.device)
        if config.optim.clip_lr == 0:
            self.model.clip.requires_grad_(False)
        if job.towers:
            assert towers_fingerprint(self.model, config) == job.towers
        self.optimizer = build_optimizer(self.model, config.optim)
        self.schedule = build_schedule(self.optimizer, config.optim, job.num_steps)
        self.keeper = CheckpointKeeper(Path(job.run_dir, "checkpoints"))
        self.recalls: deque[float] = deque(maxlen=config.train.select_mean_of)
        self.progress = TrainingProgress()
        self.tracker: Tracker | None = None
        if rank == 0:
            # seconds of imports that the other workers are spared
            from xpool_platform.tracking.mlflow_tracker import MlflowTracker  # noqa: PLC0415

            self.tracker = MlflowTracker(job.tracking_uri, job.run_id)
        torch.manual_seed(config.train.seed + rank)  # dropout differs between the workers

    def train(self, rows: Iterator[pa.Table]) -> None:
        """All steps, with evaluations at even distances."""
        job = self.job
        evals = min(self.config.train.evals_per_run, job.num_steps)
        eval_after = {round(job.num_steps * (i + 1) / evals) for i in range(evals)}
        pending: list[dict[str, Tensor | float]] = []
        num_pairs, waited_s, since = 0, 0.0, time.perf_counter()
        self.model.train()
        batches = worker_batches(rows, self.rank, self.config.data.num_frames)
        for batch, data_wait_s in _timed(batches):
            step = batch.step + 1
            pending.append(self._step(batch))
            num_pairs += batch.num_pairs
            waited_s += data_wait_s
            if step % STEPS_PER_FLUSH == 0 or step in eval_after or step == job.num_steps:
                elapsed_s = time.perf_counter() - since
                self._log_steps(
                    step,
                    pending,
                    {
                        "train/pairs_per_s": num_pairs / elapsed_s,
                        "train/step_s": elapsed_s / len(pending),
                        "train/data_wait_s": waited_s / len(pending),
                    },
                )
                pending, num_pairs, waited_s = [], 0, 0.0
                if step in eval_after:
                    self._evaluate(step)
                since = time.perf_counter()

    def report(self) -> RetrievalReport | None:
        """The best checkpoint on the reported split, recorded with its figure; on rank 0."""
        best = [self.keeper.best[0] if self.keeper.best else None]
        if dist.is_initialized():
            dist.broadcast_object_list(best)
        assert best[0] is not None
        model, _, _ = load_checkpoint(best[0])
        self.model.load_state_dict(model.state_dict())
        self._tell(note="reporting")
        videos = self._split(self.config.eval.split)
        embeds = self._encode(videos)
        if self.tracker is None:
            return None
        # matplotlib takes a second to import, which only rank 0 needs to spend
        from xpool_platform.train.final_report import record_final_report  # noqa: PLC0415

        return record_final_report(
            job=self.job,
            model=self.model,
            videos=videos,
            embeds=embeds,
            keeper=self.keeper,
            tracker=self.tracker,
        )

    def _step(self, batch: WorkerBatch) -> dict[str, Tensor | float]:
        learning_rates = {
            f"train/lr_{group['name']}": group["lr"] for group in self.optimizer.param_groups
        }
        self.optimizer.zero_grad()
        loss = self._loss(batch)
        loss.backward()
        loss = sum_gradients(self.model.parameters(), loss)
        norm = torch.nn.utils.clip_grad_norm_(
            self.model.parameters(), self.config.optim.max_grad_norm
        )
        self.optimizer.step()
        self.schedule.step()
        self.model.clamp_logit_scale()
        return {
            "train/loss": loss,
            "train/grad_norm": norm,
            "train/logit_scale": self.model.logit_scale.detach().exp(),
            **learning_rates,
        }

    def _loss(self, batch: WorkerBatch) -> Tensor:
        frames = batch.frames.to(self.device)
        share = {
            "num_pairs": batch.num_pairs,
            "rank": self.rank,
            "world_size": self.world_size,
        }
        if batch.text_embeds is not None:
            return loss_of_embeds(self.model, batch.text_embeds.to(self.device), frames, **share)
        tokens = self.tokenizer(batch.captions).to(self.device) if batch.captions else self._none()
        with torch.autocast("cuda", torch.bfloat16, enabled=self.config.train.use_gpu):
            return global_batch_loss(self.model, tokens, frames, **share)

    def _none(self) -> Tensor:
        return self.tokenizer(["-"]).to(self.device)[:0]

    def _log_steps(
        self,
        step: int,
        pending: list[dict[str, Tensor | float]],
        speed: dict[str, float],
    ) -> None:
        """Log the steps that end with `step` and their speed; stop on a loss that is no number."""
        first = step - len(pending) + 1
        rows = [{key: float(value) for key, value in row.items()} for row in pending]
        for i, row in enumerate(rows):
            if not math.isfinite(row["train/loss"]):
                raise UserError(
                    f"the loss is {row['train/loss']} at step {first + i} (gradient norm "
                    f"{row['train/grad_norm']:g}); lower --optim.clip-lr and --optim.pooling-lr"
                )
        if self.tracker is None:
            return
        metrics_of_step = {first + i: row for i, row in enumerate(rows)}
        metrics_of_step[step] = {**rows[-1], **speed}
        self.tracker.log_metrics(metrics_of_step)
        self._tell(step=step, loss=rows[-1]["train/loss"], pairs_per_s=speed["train/pairs_per_s"])

    def _evaluate(self, step: int) -> None:
        """Score the split of train.select_on and keep a checkpoint."""
        split = self.config.train.select_on
        self._tell(step=step, note=f"evaluating on {split}")
        embeds = self._encode(self._split(split))
        if self.tracker is None:
            return
        metrics = split_metrics(self.model.pooling, embeds)
        self.tracker.log_metrics(
            {step: {f"{split}/{key}": value for key, value in metrics.items()}}
        )
        self.recalls.append(metrics["t2v/R1"])
        score = sum(self.recalls) / len(self.recalls)
        state = CheckpointState(step=step, score=score, run_id=self.job.run_id)
        self.keeper.add(self.model, self.config, state)

    def _split(self, split: str) -> pa.Table:
        videos = self.job.videos
        return videos.filter(pc.equal(videos["split"], split))

    def _encode(self, videos: pa.Table) -> SplitEmbeds:
        if self.job.towers:
            return cached_split(videos, self.config.data.num_frames, self.device)
        with torch.autocast("cuda", torch.bfloat16, enabled=self.config.train.use_gpu):
            return encode_split(
                self.model,
                self.tokenizer,
                videos,
                num_frames=self.config.data.num_frames,
                batch_size=self.config.eval.batch_size,
                device=self.device,
                rank=self.rank,
                world_size=self.world_size,
                gather_rows=gather_rows,
            )

    def _tell(self, *, note: str = "", **changes: Any) -> None:
        if self.rank == 0:
            self.progress = replace(self.progress, note=note, **changes)
            self.job.board.put.remote(self.progress)


def _timed(batches: Iterator[WorkerBatch]) -> Iterator[tuple[WorkerBatch, float]]:
    """Each batch with the seconds that were spent waiting for it."""
    while True:
        start = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - start
