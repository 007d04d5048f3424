"""Against numbers of the authors' implementation (tests/data/parity/README.md)."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from xpool.config import OptimConfig
from xpool.loss import contrastive_loss
from xpool.metrics import retrieval_metrics
from xpool.optim import MAX_LOGIT_SCALE, build_optimizer, build_schedule
from xpool.pooling import CrossAttentionPooling, MeanPooling, SoftmaxPooling, TopKPooling
from xpool.sampling import uniform_frame_indices
from xpool.scoring import score_matrix
from xpool.similarity import similarity_matrix

PARITY = Path(__file__).parents[1] / "data" / "parity"
EXPECTED = json.loads((PARITY / "expected.json").read_text())


def reference_pooling(values: dict[str, torch.Tensor], num_heads: int, prefix: str = "pool."):
    pooling = CrossAttentionPooling(32, num_heads, dropout=0.0)
    pooling.load_state_dict(
        {
            name.removeprefix(prefix).replace("cross_attn.", ""): value
            for name, value in values.items()
            if name.startswith(prefix)
        }
    )
    return pooling


@pytest.fixture(params=[1, 4])
def head(request):
    return request.param, load_file(PARITY / f"head{request.param}.safetensors")


def test_pooling_and_similarity(head):
    num_heads, values = head
    pooling = reference_pooling(values, num_heads)
    pooled = pooling(values["text"], values["frames"])
    torch.testing.assert_close(pooled[:8], values["pooled"], rtol=1e-5, atol=1e-6)
    similarity = similarity_matrix(values["text"], pooled)
    torch.testing.assert_close(similarity, values["sims"], rtol=1e-5, atol=1e-6)
    scores = score_matrix(pooling, values["text"], values["frames"])
    torch.testing.assert_close(scores, values["sims"], rtol=1e-5, atol=1e-6)


def test_baselines(head):
    _, values = head
    text, frames = values["text"], values["frames"]
    for pooling, name in (
        (TopKPooling(3), "baseline.topk"),
        (SoftmaxPooling(0.01), "baseline.attention"),
    ):
        torch.testing.assert_close(
            pooling(text, frames)[:8], values[name], rtol=1e-5, atol=1e-6, msg=name
        )
    mean = MeanPooling()(text, frames)
    assert mean.shape == (32, 36, 32)
    torch.testing.assert_close(mean[:, 7], values["baseline.avg"], rtol=1e-5, atol=1e-7)


def test_loss_and_its_gradients(head):
    _, values = head
    similarity = values["sims"][:32, :32].clone().requires_grad_()
    logit_scale = torch.tensor(2.6592, requires_grad=True)
    loss = contrastive_loss(similarity, logit_scale)
    loss.backward()
    torch.testing.assert_close(loss, values["loss"], rtol=1e-6, atol=0)
    torch.testing.assert_close(similarity.grad, values["loss_grad_sims"], rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(
        logit_scale.grad, values["loss_grad_logit_scale"], rtol=1e-5, atol=1e-8
    )


def test_forty_optimiser_steps(head):
    num_heads, values = head
    model = nn.Module()
    model.pooling = reference_pooling(values, num_heads)
    model.clip = nn.Module()
    model.clip.logit_scale = nn.Parameter(torch.tensor(2.6592))
    config = OptimConfig(clip_lr=1e-4, pooling_lr=3e-3)
    optimizer = build_optimizer(model, config)
    schedule = build_schedule(optimizer, config, num_steps=40)
    losses, learning_rates = [], []
    for text, frames in zip(values["train.text"], values["train.frames"], strict=True):
        optimizer.zero_grad()
        loss = contrastive_loss(
            similarity_matrix(text, model.pooling(text, frames)), model.clip.logit_scale
        )
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        learning_rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
        model.clip.logit_scale.data.clamp_(max=MAX_LOGIT_SCALE)
        losses.append(loss.item())
    torch.testing.assert_close(
        torch.tensor(losses), values["train.losses"].float(), rtol=0, atol=5e-6
    )
    torch.testing.assert_close(
        torch.tensor(learning_rates), values["train.lrs"].float(), rtol=1e-6, atol=1e-12
    )
    final = reference_pooling(values, num_heads, prefix="train.final.")
    for name, parameter in model.pooling.named_parameters():
        torch.testing.assert_close(
            parameter, dict(final.named_parameters())[name], rtol=1e-3, atol=2e-4, msg=name
        )


def test_metrics_with_several_captions_a_video():
    values = load_file(PARITY / "multicaption.safetensors")
    metrics = retrieval_metrics(values["sims"].numpy(), values["video_of_text"].numpy())
    for direction in ("t2v", "v2t"):
        expected = EXPECTED[direction]
        for name in ("R1", "R5", "R10", "R50"):
            assert metrics[f"{direction}/{name}"] == pytest.approx(expected[name], abs=1e-9)
        assert metrics[f"{direction}/MdR"] == expected["MedR"]
        assert metrics[f"{direction}/MnR"] == pytest.approx(expected["MeanR"], abs=1e-9)


@pytest.mark.parametrize(("counts", "indices"), EXPECTED["uniform_frame_indices"].items())
def test_uniform_frame_indices(counts, indices):
    available, wanted = map(int, counts.split("/"))
    assert uniform_frame_indices(available, wanted) == indices
