"""How much of a device's arithmetic a training uses: model FLOPs utilisation, and memory."""

import copy
from itertools import chain

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from xpool.clip import Tokenizer
from xpool.model import XPool
from xpool_platform.train.step import global_batch_loss

DENSE_BF16_TFLOPS = {
    "B200": 2250.0,
    "GH200": 989.0,
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "A100": 312.0,
    "A30": 165.0,
    "A40": 149.7,
    "A10": 125.0,
    "A10G": 70.0,
    "L40S": 362.0,
    "L4": 121.0,
}
"""Peak of matrix products in bfloat16 without sparsity, from NVIDIA's data sheets, by words in a
GPU's name; the first that fits counts."""


def step_flops(model: XPool, tokenizer: Tokenizer, *, batch_size: int, num_frames: int) -> int:
    """Floating-point operations that a step on a global batch needs, forward and backward.

    Counted by torch over tensors that hold nothing. What is computed twice to save memory counts
    once, and frozen parts have no backward pass (Chowdhery et al., 2022, appendix B).
    """
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    empty: dict[int, torch.Tensor] = {}
    for tensor in chain(model.parameters(), model.buffers()):
        held = fake.from_tensor(tensor.detach().cpu())
        learns = isinstance(tensor, nn.Parameter)
        empty[id(tensor)] = nn.Parameter(held, tensor.requires_grad) if learns else held
    hollow = copy.deepcopy(model, empty)
    hollow.clip.set_grad_checkpointing(False)
    context_length = tokenizer([""]).shape[1]
    size = model.image_size
    with fake, FlopCounterMode(display=False) as counter:
        global_batch_loss(
            hollow,
            torch.zeros(batch_size, context_length, dtype=torch.long),
            torch.zeros(batch_size, num_frames, 3, size, size, dtype=torch.uint8),
            num_pairs=batch_size,
            rank=0,
            world_size=1,
        ).backward()
    return counter.get_total_flops()


def peak_tflops(device: torch.device) -> float | None:
    """What the device could do at most, in TFLOP/s; None if that is not known."""
    if device.type != "cuda":
        return None
    return peak_of_name(torch.cuda.get_device_name(device))


def peak_of_name(name: str) -> float | None:
    """The peak of a GPU, in TFLOP/s; None if it is not known."""
    words = set(name.replace("-", " ").split())
    return next((peak for gpu, peak in DENSE_BF16_TFLOPS.items() if words >= {*gpu.split()}), None)


class Utilisation:
    """Metrics of a device, by name."""

    def __init__(self, flops_per_pair: float, device: torch.device, world_size: int) -> None:
        self._flops_per_pair, self._device, self._world_size = flops_per_pair, device, world_size
        self._peak = peak_tflops(device)

    def read(self, pairs_per_s: float) -> dict[str, float]:
        """TFLOP/s of a worker, its share of the peak, and the GPU memory of rank 0 in GiB."""
        tflops = self._flops_per_pair * pairs_per_s / self._world_size / 1e12
        metrics = {"train/model_tflops_per_worker": tflops}
        if self._peak is not None:
            metrics["train/mfu"] = tflops / self._peak
        if self._device.type == "cuda":
            gib = torch.cuda.max_memory_allocated(self._device) / 2**30
            metrics["train/gpu_memory_gib"] = gib
        return metrics
