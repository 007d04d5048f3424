"""Floating-point operations that a step needs, and the peaks that they are compared with."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from xpool.clip import build_tokenizer
from xpool.config import LossConfig, ModelConfig
from xpool.model import build_model
from xpool_platform.train.step import global_batch_loss
from xpool_platform.train.utilisation import Utilisation, peak_of_name, step_flops

TINY = ModelConfig(clip_name="tiny")


def counted(batch_size: int, num_frames: int, *, frozen: bool = False) -> tuple[int, int]:
    """Of tensors that hold nothing, and of a step that is really done."""
    model = build_model(TINY, LossConfig()).train()
    model.clip.requires_grad_(not frozen)
    tokenizer = build_tokenizer(TINY)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flops = step_flops(model, tokenizer, batch_size=batch_size, num_frames=num_frames)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    frames = torch.zeros(batch_size, num_frames, 3, 48, 48, dtype=torch.uint8)
    tokens = tokenizer(["a thing"] * batch_size)
    with FlopCounterMode(display=False) as counter:
        global_batch_loss(
            model, tokens, frames, num_pairs=batch_size, rank=0, world_size=1
        ).backward()
    return flops, counter.get_total_flops()


@pytest.mark.parametrize("frozen", [False, True])
def test_nothing_is_computed_and_all_is_counted(frozen):
    flops, done = counted(4, 3, frozen=frozen)
    assert flops == done


def test_what_is_computed_twice_counts_once():
    model, tokenizer = build_model(TINY, LossConfig()).train(), build_tokenizer(TINY)
    flops = step_flops(model, tokenizer, batch_size=4, num_frames=3)
    model.clip.set_grad_checkpointing(True)
    assert step_flops(model, tokenizer, batch_size=4, num_frames=3) == flops
    assert model.clip.visual.transformer.grad_checkpointing


def test_frozen_towers_and_fewer_frames_need_less():
    assert counted(4, 3, frozen=True)[0] < 0.5 * counted(4, 3)[0]
    assert counted(4, 3)[0] < 0.7 * counted(4, 6)[0]


def test_a_vit_b_32_needs_what_is_known_of_it():
    """4.4 G multiplications with additions for an image of 224 pixels, by its authors; 2.9 for a
    text of 77 tokens (12 layers of 24 D^2 L + 4 L^2 D operations, D = 512); forward and backward,
    three times. Beside them the pooling is small."""
    config = ModelConfig(clip_name="ViT-B-32")
    model = build_model(config, LossConfig())
    flops = step_flops(model, build_tokenizer(config), batch_size=2, num_frames=4)
    towers = 3 * 2 * (4 * 4.4e9 + 2.98e9) * 2
    assert flops == pytest.approx(towers, rel=0.03)


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H200", 989.0),
        ("NVIDIA H100 80GB HBM3", 989.0),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA A10G", 70.0),
        ("NVIDIA RTX A4000", None),
    ],
)
def test_peaks(name, tflops):
    assert peak_of_name(name) == tflops


def test_a_worker_counts_its_share():
    read = Utilisation(2e9, torch.device("cpu"), world_size=4).read(pairs_per_s=100.0)
    assert read == {"train/model_tflops_per_worker": pytest.approx(0.05)}
