"""What makes training fast or small: the losses stay what they are."""

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from xpool.clip import build_tokenizer, freeze_lower_layers
from xpool.config import LossConfig, ModelConfig, OptimConfig
from xpool.model import XPool, build_model
from xpool.optim import build_optimizer
from xpool_platform.data.batches import WorkerBatch
from xpool_platform.errors import UserError
from xpool_platform.train.first_model import let_learn
from xpool_platform.train.speed import fetched_ahead, matmul_precision, prepare_towers
from xpool_platform.train.step import global_batch_loss
from xpool_platform.train_config import TrainConfig

CONFIG = ModelConfig(clip_name="tiny", dropout=0.0)
CAPTIONS = ["a red thing", "a blue thing", "something else"]


def model() -> XPool:
    torch.manual_seed(7)
    return build_model(CONFIG, LossConfig(temperature=0.1)).train()


def losses(model: XPool, num_steps: int = 3) -> list[float]:
    optimizer = build_optimizer(model, OptimConfig(clip_lr=1e-3, pooling_lr=1e-3))
    pixels = torch.Generator().manual_seed(3)
    frames = torch.randint(0, 256, (3, 2, 3, 48, 48), generator=pixels).to(torch.uint8)
    tokens = build_tokenizer(CONFIG)(CAPTIONS)
    taken = []
    for _ in range(num_steps):
        optimizer.zero_grad()
        loss = global_batch_loss(model, tokens, frames, num_pairs=3, rank=0, world_size=1)
        loss.backward()
        optimizer.step()
        taken.append(loss.item())
    return taken


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(checkpoint_activations=True),
        pytest.param(TrainConfig(compile=True), marks=pytest.mark.slow),
    ],
    ids=["activations again", "compiled"],
)
def test_losses_are_the_same(config):
    prepared = model()
    names = list(prepared.state_dict())
    prepare_towers(prepared.clip, config)
    assert losses(prepared) == pytest.approx(losses(model()), rel=1e-4)
    assert list(prepared.state_dict()) == names


def test_the_lower_layers_keep_their_weights_and_the_others_learn():
    frozen = model()
    let_learn(frozen, OptimConfig(frozen_layers=1))
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    first, *_, last = losses(frozen, num_steps=12)
    assert last < first
    still = {name for name, value in frozen.named_parameters() if torch.equal(value, before[name])}
    assert {"clip.visual.conv1.weight", "clip.token_embedding.weight"} <= still
    assert any(name.startswith("clip.visual.transformer.resblocks.0.") for name in still)
    assert any(name.startswith("clip.transformer.resblocks.0.") for name in still)
    assert not any("resblocks.1." in name for name in still)
    assert "clip.visual.proj" not in still


def test_more_layers_than_there_are_cannot_be_frozen():
    with pytest.raises(ValueError, match=r"optim\.frozen_layers is 3, and the image tower has 2"):
        freeze_lower_layers(model().clip, 3)
    with pytest.raises(UserError, match=r"set --optim\.frozen-layers to fewer"):
        let_learn(model(), OptimConfig(frozen_layers=3))


def test_batches_come_in_order_and_one_ahead():
    asked = []
    second = threading.Event()

    def source():
        for step in range(4):
            asked.append(step)
            if step == 1:
                second.set()
            yield WorkerBatch(step, 1, torch.zeros(1), ["a"], None)
        raise ValueError("the end")

    batches = fetched_ahead(source(), torch.device("cpu"))
    assert next(batches).step == 0
    assert second.wait(5)
    assert [next(batches).step for _ in range(3)] == [1, 2, 3]
    with pytest.raises(ValueError, match="the end"):
        next(batches)
    assert asked == [0, 1, 2, 3]


def test_other_products_keep_their_precision():
    before = torch.get_float32_matmul_precision()
    with matmul_precision(tf32=True):
        assert torch.get_float32_matmul_precision() == "high"
        with matmul_precision(tf32=False):
            assert torch.get_float32_matmul_precision() == "highest"
    assert torch.get_float32_matmul_precision() == before


WITHOUT_RAY = """
import runpy, sys
sys.modules["ray"] = sys.modules["mlflow"] = None
sys.argv[1:] = "--clip-name tiny --batch-sizes 4 --num-frames 2 --num-steps 1 --no-compile".split()
runpy.run_path(sys.path.pop(), run_name="__main__")
"""


def test_the_benchmark_of_a_step_needs_neither_ray_nor_mlflow():
    script = Path(__file__).parents[1] / "benchmarks" / "gpu_step.py"
    program = f"import sys; sys.path.append({str(script)!r})" + WITHOUT_RAY
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"batch +4, this +[0-9.]+ pairs/s", done.stdout)
