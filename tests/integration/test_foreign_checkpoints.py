"""jobs/evaluate.py on a file of X-Pool's authors, and on pretrained towers without a checkpoint."""

from pathlib import Path

import open_clip
import pytest
import torch
from conftest import SMALL_SHAPES
from test_evaluate_job import evaluated, refused

from xpool.model import build_model
from xpool_platform.experiments import shapes

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    """An output folder in which these evaluations share corpus and frames."""
    return tmp_path_factory.mktemp("foreign checkpoints")


@pytest.mark.slow
def test_zero_shot_towers_are_the_baseline(output, tmp_path):
    weights = tmp_path / "towers.pt"
    model = build_model(shapes().model)
    torch.save(model.clip.state_dict(), weights)
    summary, _ = evaluated(
        *(output, "zero-shot", "shapes", "--model.pooling", "mean", *SMALL_SHAPES),
        *("--model.clip-pretrained", str(weights), "--eval.num-figures", "0"),
    )
    assert summary["checkpoint"] == ""
    assert not (output / "evaluations" / "zero-shot" / "figures").exists()
    assert summary["num_captions"] == 36


def authors_checkpoint(path: Path) -> None:
    """A file in the authors' format: small towers that read CLIP's own tokens."""
    torch.manual_seed(0)
    width, tokens = 64, open_clip.get_tokenizer("ViT-B-32")(["a"])
    weights: dict[str, torch.Tensor] = {
        "clip.logit_scale": torch.tensor(4.6),
        "clip.text_model.embeddings.token_embedding.weight": torch.randn(49408, width) * 0.02,
        "clip.text_model.embeddings.position_embedding.weight": torch.randn(tokens.shape[1], width),
        "clip.vision_model.embeddings.class_embedding": torch.randn(width),
        "clip.vision_model.embeddings.patch_embedding.weight": torch.randn(width, 3, 16, 16) * 0.02,
        "clip.vision_model.embeddings.position_embedding.weight": torch.randn(10, width),
        "clip.text_projection.weight": torch.randn(32, width) * 0.1,
        "clip.visual_projection.weight": torch.randn(32, width) * 0.1,
    }
    sizes = {"self_attn.q_proj": (width, width), "self_attn.k_proj": (width, width)}
    sizes |= {"self_attn.v_proj": (width, width), "self_attn.out_proj": (width, width)}
    sizes |= {"mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
    for tower, norms in (
        ("text_model", ["final_layer_norm"]),
        ("vision_model", ["pre_layrnorm", "post_layernorm"]),
    ):
        layer = f"clip.{tower}.encoder.layers.0"
        for name, size in sizes.items():
            weights[f"{layer}.{name}.weight"] = torch.randn(size) * 0.1
            weights[f"{layer}.{name}.bias"] = torch.zeros(size[0])
        for name in (*(f"clip.{tower}.{n}" for n in norms), f"{layer}.layer_norm1"):
            weights |= {f"{name}.weight": torch.ones(width), f"{name}.bias": torch.zeros(width)}
        name = f"{layer}.layer_norm2"
        weights |= {f"{name}.weight": torch.ones(width), f"{name}.bias": torch.zeros(width)}
    for name in ("cross_attn.q", "cross_attn.k", "cross_attn.v", "cross_attn.out", "linear"):
        weights[f"pool_frames.{name}_proj.weight"] = torch.eye(32)
        weights[f"pool_frames.{name}_proj.bias"] = torch.zeros(32)
    for i in (1, 2, 3):
        weights[f"pool_frames.layer_norm{i}.weight"] = torch.ones(32)
        weights[f"pool_frames.layer_norm{i}.bias"] = torch.zeros(32)
    torch.save({"epoch": 5, "state_dict": weights, "optimizer": {}}, path)


@pytest.mark.slow
def test_a_checkpoint_of_the_authors(output, tmp_path):
    path = tmp_path / "model_best.pth"
    authors_checkpoint(path)
    summary, _ = evaluated(
        *(output, "theirs", "shapes", *SMALL_SHAPES, "--checkpoint", str(path)),
        *("--model.clip-name", "ViT-B-32"),
    )
    assert summary["checkpoint"] == str(path)
    assert summary["num_videos"] == 12


@pytest.mark.slow
def test_files_that_are_no_checkpoint_for_these_towers(output, tmp_path):
    path = tmp_path / "model_best.pth"
    authors_checkpoint(path)
    small = ("--output-dir", str(output), *SMALL_SHAPES)
    message = refused("shapes", *small, "--checkpoint", str(path))
    assert "reads 77 tokens of a vocabulary of 49408, and the tokenizer of tiny gives 32" in message
    assert "name the experiment whose data" in refused("--checkpoint", str(path))
    torch.save({"state_dict": {"a.weight": torch.zeros(2)}}, path)
    message = refused("shapes", *small, "--checkpoint", str(path))
    assert "model_best.pth is not a checkpoint of X-Pool's authors: missing" in message
    assert "unexpected 1 (a.weight)" in message
