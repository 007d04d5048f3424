"""A training step on a GPU, against the same step as the authors have it.

    python tests/benchmarks/gpu_step.py [--batch-sizes 32 256] [--peak-tflops 989]

Needs torch, open_clip and this checkout; neither Ray nor MLflow. The weights are random: what a
step costs does not depend on them. The authors' way: float32, frames as normalised floats that are
copied at every step, no compilation, the loss read by the host at every step.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform"), str(Path(__file__).parent)]

from machine import machine_name  # noqa: E402

from xpool.clip import build_tokenizer  # noqa: E402
from xpool.config import LossConfig, ModelConfig, OptimConfig  # noqa: E402
from xpool.model import XPool, build_model  # noqa: E402
from xpool.optim import build_optimizer  # noqa: E402
from xpool.transforms import normalize_frames  # noqa: E402
from xpool_platform.train.speed import matmul_precision, prepare_towers  # noqa: E402
from xpool_platform.train.step import backward_in_slices, global_batch_loss  # noqa: E402
from xpool_platform.train.utilisation import step_flops  # noqa: E402
from xpool_platform.train_config import TrainConfig  # noqa: E402

Step = Callable[[], None]


def main() -> None:
    """Time both ways for each batch size and print pairs/s, memory and utilisation."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--clip-name", default="ViT-B-32")
    options.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 256])
    options.add_argument("--micro-batch-size", type=int, default=64)
    options.add_argument("--num-frames", type=int, default=12)
    options.add_argument("--num-steps", type=int, default=20)
    options.add_argument("--peak-tflops", type=float, default=989.0)
    options.add_argument("--no-compile", action="store_true")
    asked = options.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"{machine_name()}; {asked.clip_name}, {asked.num_frames} frames")
    clip = ModelConfig(clip_name=asked.clip_name)
    for batch_size in asked.batch_sizes:
        taken = {}
        # what slices compute twice is no use to the model: utilisation counts it once
        flops = step_flops(
            build_model(clip, LossConfig()),
            build_tokenizer(clip),
            batch_size=batch_size,
            num_frames=asked.num_frames,
        )
        for name, build in (("authors", authors_step), ("this", our_step)):
            try:
                step = build(asked, batch_size, device)
                seconds, memory = timed(step, asked.num_steps, device)
            except torch.OutOfMemoryError:
                print(f"  batch {batch_size:4d}, {name:8s} out of memory")
                continue
            taken[name] = seconds
            share = flops / seconds / (asked.peak_tflops * 1e12)
            print(
                f"  batch {batch_size:4d}, {name:8s} {batch_size / seconds:8.1f} pairs/s, "
                f"{memory / 2**30:6.1f} GiB, {100 * share:5.1f} % of {asked.peak_tflops:g} TFLOP/s"
            )
        if len(taken) == 2:
            print(f"  batch {batch_size:4d}, {taken['authors'] / taken['this']:.1f} times")


def timed(step: Step, num_steps: int, device: torch.device) -> tuple[float, int]:
    """The median seconds of a step, and the most memory in use."""
    for _ in range(3):
        step()
    seconds = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(num_steps):
        start = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    return statistics.median(seconds), memory


def built(clip_name: str, device: torch.device) -> tuple[XPool, torch.optim.Optimizer]:
    """A model with random weights, and its optimiser."""
    torch.manual_seed(0)
    model = build_model(ModelConfig(clip_name=clip_name), LossConfig()).to(device).train()
    return model, build_optimizer(model, OptimConfig())


def batch(
    asked: argparse.Namespace, batch_size: int, image_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames as uint8 and tokens, on the host."""
    shape = (batch_size, asked.num_frames, 3, image_size, image_size)
    captions = [f"a video of thing {i}" for i in range(batch_size)]
    tokens = build_tokenizer(ModelConfig(clip_name=asked.clip_name))(captions)
    return torch.randint(0, 256, shape, dtype=torch.uint8), tokens


def authors_step(asked: argparse.Namespace, batch_size: int, device: torch.device) -> Step:
    """A step in float32."""
    model, optimizer = built(asked.clip_name, device)
    pixels, tokens = batch(asked, batch_size, model.image_size)
    frames = normalize_frames(pixels, model.image_mean, model.image_std)
    share = {"num_pairs": batch_size, "rank": 0, "world_size": 1}

    def step() -> None:
        optimizer.zero_grad()
        loss = global_batch_loss(model, tokens.to(device), frames.to(device), **share)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model.clamp_logit_scale()
        loss.item()

    return step


def our_step(asked: argparse.Namespace, batch_size: int, device: torch.device) -> Step:
    """A step as a training worker does it."""
    model, optimizer = built(asked.clip_name, device)
    pixels, tokens = batch(asked, batch_size, model.image_size)
    if device.type == "cuda":
        pixels = pixels.pin_memory()
    share = {"num_pairs": batch_size, "rank": 0, "world_size": 1}

    def step(micro_batch_size: int = asked.micro_batch_size) -> None:
        optimizer.zero_grad()
        frames = pixels.to(device, non_blocking=True)
        texts = tokens.to(device, non_blocking=True)
        cast = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
        with cast, matmul_precision(tf32=True):
            if micro_batch_size < batch_size:
                backward_in_slices(model, texts, frames, micro_batch_size=micro_batch_size, **share)
            else:
                loss = global_batch_loss(model, texts, frames, **share)
        if micro_batch_size >= batch_size:
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model.clamp_logit_scale()

    prepare_towers(model.clip, TrainConfig(compile=not asked.no_compile))
    return step


if __name__ == "__main__":
    main()
