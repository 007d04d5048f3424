import pytest
import torch
from torch import nn

from xpool.config import LossConfig, ModelConfig, OptimConfig
from xpool.model import build_model
from xpool.optim import build_optimizer, build_schedule, warmup_cosine

TINY = ModelConfig(clip_name="tiny")


def test_towers_and_logit_scale_learn_apart_from_the_pooling():
    model = build_model(TINY)
    optimizer = build_optimizer(model, OptimConfig(clip_lr=1e-6, pooling_lr=3e-5))
    groups = {group["name"]: group for group in optimizer.param_groups}
    assert groups["clip"]["lr"] == 1e-6
    assert groups["pooling"]["lr"] == 3e-5
    assert any(p is model.logit_scale for p in groups["clip"]["params"])
    pooling = {id(p) for p in model.pooling.parameters()}
    assert {id(p) for p in groups["pooling"]["params"]} == pooling
    assert sum(len(g["params"]) for g in groups.values()) == len(list(model.parameters()))
    assert all(g["weight_decay"] == 0.2 and g["eps"] == 1e-6 for g in groups.values())


def test_a_fixed_temperature_is_not_learnt():
    model = build_model(TINY, LossConfig(temperature=0.05, learnable_temperature=False))
    assert model.logit_scale.exp().item() == pytest.approx(20)
    optimizer = build_optimizer(model, OptimConfig())
    learnt = [p for group in optimizer.param_groups for p in group["params"]]
    assert not any(p is model.logit_scale for p in learnt)


def test_mean_pooling_has_nothing_of_its_own_to_learn():
    model = build_model(ModelConfig(clip_name="tiny", pooling="mean"))
    assert [g["name"] for g in build_optimizer(model, OptimConfig()).param_groups] == ["clip"]


def test_schedule_rises_linearly_and_falls_as_a_half_cosine():
    assert [warmup_cosine(step, 4, 20) for step in range(5)] == [0, 0.25, 0.5, 0.75, 1]
    assert warmup_cosine(12, 4, 20) == pytest.approx(0.5)
    assert warmup_cosine(20, 4, 20) == pytest.approx(0)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = build_schedule(optimizer, OptimConfig(warmup_fraction=0.2), num_steps=10)
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:3] == [0, 1, 2]


def test_logit_scale_stays_at_most_100():
    model = build_model(TINY)
    model.logit_scale.data.fill_(9.0)
    model.clamp_logit_scale()
    assert model.logit_scale.exp().item() == pytest.approx(100)
