"""What every training worker does, from the first batch to the report."""

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa
import ray.train
import torch
from torch import Tensor

from xpool.clip import Tokenizer, build_tokenizer
from xpool.model import XPool
from xpool.optim import build_optimizer, build_schedule
from xpool_platform.checkpoint import CheckpointKeeper, load_weights
from xpool_platform.checkpoint_files import TRAINING, read_file
from xpool_platform.data.batches import WorkerBatch, worker_batches
from xpool_platform.evaluate.encode import SplitEmbeds, encode_split
from xpool_platform.evaluate.frozen_towers import cached_split, towers_fingerprint
from xpool_platform.progress import TrainingProgress
from xpool_platform.report import RetrievalReport
from xpool_platform.train.collectives import from_rank_zero, gather_rows, sum_gradients
from xpool_platform.train.evaluations import Evaluations
from xpool_platform.train.finite import check_finite
from xpool_platform.train.first_model import first_model, let_learn
from xpool_platform.train.job import TrainingJob
from xpool_platform.train.sign_of_life import SignOfLife
from xpool_platform.train.speed import fetched_ahead, matmul_precision, prepare_towers
from xpool_platform.train.step import (
    backward_in_slices,
    global_batch_loss,
    loss_of_embeds,
)
from xpool_platform.train.step_log import Row, StepLog
from xpool_platform.train.training_state import Learner
from xpool_platform.train.utilisation import Utilisation, step_flops
from xpool_platform.train.worker_record import WorkerRecord

STEPS_PER_FLUSH = 10
"""Losses wait on the device for so many steps, so that a step does not wait for the host."""


def train_worker(job: TrainingJob, rows: Iterator[pa.Table]) -> dict[str, Any] | None:
    """Train, keep the best and the last checkpoints, report on the best.

    Rank 0 gives the report or, if the workers stopped before the end, the step they reached.
    """
    context = ray.train.get_context()
    worker = _Worker(job, context.get_world_rank(), context.get_world_size())
    step = worker.train(rows)
    ends = not (worker.stopped or worker.paused)
    report = worker.report(step) if ends else None
    worker.record.close()
    if not ends:
        return {"stopped_after": step}
    return {"report": asdict(report), "ended_after": step} if report is not None else None


class _Worker:
    """The state of one worker. Rank 0 logs and writes; the others only compute.

    Attributes: `stopped`, whether the driver wanted the workers to stop before the end, and
    `paused`, whether they came to job.until_step.
    """

    def __init__(self, job: TrainingJob, rank: int, world_size: int) -> None:
        config = job.config
        torch.set_num_threads(max(1, int(config.train.cpus_per_worker)))
        torch.manual_seed(config.train.seed)
        self.job, self.config, self.rank, self.world_size = job, config, rank, world_size
        self.life = SignOfLife(job.board, rank)
        self.device = ray.train.torch.get_device() if config.train.use_gpu else torch.device("cpu")
        self.tokenizer: Tokenizer = build_tokenizer(config.model)
        self.model: XPool = first_model(config, job.resume_from).to(self.device)
        let_learn(self.model, config.optim)
        prepare_towers(self.model.clip, config.train)
        self.wishes = torch.zeros((), device=self.device), torch.ones((), device=self.device)
        if job.towers:
            assert towers_fingerprint(self.model, config) == job.towers
        optimizer = build_optimizer(self.model, config.optim)
        schedule = build_schedule(optimizer, config.optim, job.num_steps)
        self.learner = Learner(model=self.model, optimizer=optimizer, schedule=schedule)
        self.progress = TrainingProgress(step=job.first_step)
        self.keeper: CheckpointKeeper | None = None
        self.record = WorkerRecord(job)
        self.tracker = self.record.tracker
        self.num_skipped = 0
        self.stopped = self.paused = False
        self.utilisation: Utilisation | None = None
        if rank == 0:
            train = config.train
            self.keeper = CheckpointKeeper(
                job.checkpoints, keep_last=train.keep_last, keep_best=train.keep_best
            )
            self.keeper.tidy(job.first_step)
            if not job.towers:
                self.utilisation = Utilisation(self._flops_per_pair(), self.device, world_size)
        seed = config.train.seed + rank  # dropout differs between the workers
        torch.manual_seed(seed)
        if job.resume_from:
            content = read_file(job.resume_from, TRAINING)
            self.learner.put_back(content, rank, seed + job.first_step)
        self.evaluations = Evaluations(
            job,
            self.learner,
            device=self.device,
            encode=lambda split: self._encode(self._split(split)),
            life=self.life,
            tracker=self.tracker,
            keeper=self.keeper,
            pass_on=self.record.pass_on,
        )

    def train(self, rows: Iterator[pa.Table]) -> int:
        """The steps that are left, and their evaluations; gives the last one done.

        That is an earlier one if the driver wanted the workers to stop, or by train.patience.
        """
        job, train, evaluations = self.job, self.config.train, self.evaluations
        evaluations.catch_up()
        if evaluations.over:
            return job.first_step
        log = StepLog()
        self.model.train()
        batches = worker_batches(
            rows, self.rank, self.config.data.num_frames, first_step=job.first_step
        )
        step = job.first_step
        for batch, data_wait_s in self._timed(fetched_ahead(batches, self.device)):
            step = batch.step + 1
            row, stop = self._step(batch)
            log.add(row, batch.num_pairs, data_wait_s)
            evaluates = evaluations.due_after(step)
            saves = evaluates or step % train.checkpoint_steps == 0
            flushes = saves or step % STEPS_PER_FLUSH == 0 or step == job.num_steps
            if flushes or self.device.type == "cpu":  # which has nothing to wait for
                if train.on_nan == "stop":
                    check_finite(job, step, log.rows)
                self.stopped = float(stop) > 0 and step < job.num_steps
            if flushes or self.stopped:
                self._log(step, log)
                if evaluates:
                    self._tell(step=step, note=f"evaluating on {train.select_on}")
                    evaluations.evaluate(step)
                elif saves or self.stopped:
                    evaluations.keep(step, stops=self.stopped)
                log.restart()
            if self.stopped or (saves and evaluations.over):
                break
            if step == job.until_step:
                self.paused = True
                break
        if not self.stopped:
            evaluations.finish()
        if self.keeper is not None:
            self.keeper.wait()
        return step

    def report(self, step: int) -> RetrievalReport | None:
        """The best checkpoint on the reported split, recorded with its figure; on rank 0."""
        keeper = self.keeper
        best = from_rank_zero(keeper.of_step(keeper.best or 0) if keeper is not None else "")
        self.model.load_state_dict(load_weights(best))
        self.model.eval()
        self._tell(note="reporting")
        videos = self._split(self.config.eval.split)
        embeds = self._encode(videos)
        if self.tracker is None or self.keeper is None:
            return None
        # matplotlib takes a second to import, which only rank 0 needs to spend
        from xpool_platform.train.final_report import record_final_report  # noqa: PLC0415

        with self.life.doing("reporting"):
            return record_final_report(
                job=self.job,
                after_step=step,
                model=self.model,
                videos=videos,
                embeds=embeds,
                keeper=self.keeper,
                tracker=self.tracker,
            )

    def _step(self, batch: WorkerBatch) -> tuple[Row, Tensor]:
        """What is logged of the step, and how many workers the driver has asked to stop."""
        optimizer = self.learner.optimizer
        learning_rates = {
            f"train/lr_{group['name']}": group["lr"] for group in optimizer.param_groups
        }
        optimizer.zero_grad()
        with self.life.doing("computing"), matmul_precision(tf32=self.config.train.tf32):
            loss = self._backward(batch)
        wish = self.wishes[bool(self.life.stop_wanted)]
        with self.life.doing("waiting for the other workers"):
            loss, stop = sum_gradients(self.model.parameters(), torch.stack([loss, wish]))
        norm = torch.nn.utils.clip_grad_norm_(
            self.model.parameters(), self.config.optim.max_grad_norm
        )
        if self.config.train.on_nan == "skip" and not bool(torch.isfinite(loss + norm)):
            self.num_skipped += 1
        else:
            optimizer.step()
        self.learner.schedule.step()
        self.model.clamp_logit_scale()
        self.life.tick()
        row = {
            "train/loss": loss,
            "train/grad_norm": norm,
            "train/logit_scale": self.model.logit_scale.detach().exp(),
            **learning_rates,
        }
        return row, stop

    def _backward(self, batch: WorkerBatch) -> Tensor:
        """This worker's addend to the loss; adds its gradients to the parameters'."""
        frames = batch.frames.to(self.device, non_blocking=True)
        share = {
            "num_pairs": batch.num_pairs,
            "rank": self.rank,
            "world_size": self.world_size,
        }
        if batch.text_embeds is not None:
            texts = batch.text_embeds.to(self.device)
            loss = loss_of_embeds(self.model, texts, frames, **share)
            loss.backward()
            return loss.detach()
        tokens = self.tokenizer(batch.captions).to(self.device) if batch.captions else self._none()
        micro = self.config.train.micro_batch_size
        with torch.autocast("cuda", torch.bfloat16, enabled=self.config.train.use_gpu):
            if micro is not None and micro < len(frames):
                return backward_in_slices(
                    self.model, tokens, frames, micro_batch_size=micro, **share
                )
            loss = global_batch_loss(self.model, tokens, frames, **share)
        loss.backward()
        return loss.detach()

    def _flops_per_pair(self) -> float:
        size, num_frames = self.config.train.batch_size, self.config.data.num_frames
        flops = step_flops(self.model, self.tokenizer, batch_size=size, num_frames=num_frames)
        return flops / size

    def _none(self) -> Tensor:
        return self.tokenizer(["-"]).to(self.device)[:0]

    def _log(self, step: int, log: StepLog) -> None:
        if self.tracker is None:
            return
        metrics = log.read(step)
        if self.num_skipped:
            metrics[step]["train/skipped_steps"] = self.num_skipped
        newest = metrics[step]
        if self.utilisation is not None:
            newest |= self.utilisation.read(newest["train/pairs_per_s"])
        self.tracker.log_metrics(metrics)
        self._tell(
            step=step, loss=newest.get("train/loss"), pairs_per_s=newest["train/pairs_per_s"]
        )

    def _split(self, split: str) -> pa.Table:
        return self.job.videos_of(split)

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
                on_batch=self.life.tick,
            )

    def _tell(self, *, note: str = "", **changes: Any) -> None:
        if self.rank == 0:
            self.progress = replace(self.progress, note=note, **changes)
            self.job.board.put.remote(self.progress)

    def _timed(self, batches: Iterator[WorkerBatch]) -> Iterator[tuple[WorkerBatch, float]]:
        """Each batch with the seconds that were spent waiting for it."""
        while True:
            start = time.perf_counter()
            with self.life.doing("waiting for a batch"):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch, time.perf_counter() - start
