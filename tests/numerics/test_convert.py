"""Checkpoints in the authors' format (tests/data/parity/README.md)."""

import pickle
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from xpool.config import ModelConfig
from xpool.convert import load_reference_checkpoint
from xpool.pooling import MeanPooling
from xpool.scoring import score_matrix
from xpool.similarity import similarity_matrix

PARITY = Path(__file__).parents[1] / "data" / "parity"
CHECKPOINT = PARITY / "reference_checkpoint.pth"


@pytest.fixture
def content():
    return torch.load(CHECKPOINT, weights_only=True)


def resaved(folder, content) -> Path:
    torch.save(content, folder / "changed.pth")
    return folder / "changed.pth"


@torch.no_grad()
def test_a_checkpoint_of_the_authors_gives_their_embeddings_and_scores():
    values = load_file(PARITY / "reference_checkpoint_io.safetensors")
    model = load_reference_checkpoint(CHECKPOINT)
    assert not model.training
    assert (model.image_size, model.embed_dim) == (64, 64)
    text_embeds = model.encode_text(values["tokens"])
    frame_embeds = model.encode_frames(values["video"])
    for name, ours in (("text_features", text_embeds), ("frame_features", frame_embeds)):
        torch.testing.assert_close(ours, values[name], rtol=1e-5, atol=1e-5, msg=name)
    pooled = model.pooling(text_embeds, frame_embeds)
    for sims in (
        similarity_matrix(text_embeds, pooled),
        score_matrix(model.pooling, text_embeds, frame_embeds),
    ):
        torch.testing.assert_close(sims, values["sims"], rtol=1e-5, atol=1e-6)


def test_every_number_of_the_file_is_in_the_model(content):
    model = load_reference_checkpoint(CHECKPOINT)
    numbers = sum(v.numel() for k, v in content["state_dict"].items() if "position_ids" not in k)
    assert sum(p.numel() for p in model.state_dict().values()) == numbers
    assert model.logit_scale == content["state_dict"]["clip.logit_scale"]


def test_newer_files_without_position_ids_and_bare_state_dicts_load(content, tmp_path):
    weights = {k: v for k, v in content["state_dict"].items() if "position_ids" not in k}
    bare = load_reference_checkpoint(resaved(tmp_path, weights)).state_dict()
    for name, value in load_reference_checkpoint(CHECKPOINT).state_dict().items():
        torch.testing.assert_close(bare[name], value, rtol=0, atol=0)


def test_the_towers_alone_under_another_pooling(content, tmp_path):
    towers = {k: v for k, v in content["state_dict"].items() if k.startswith("clip.")}
    for path in (CHECKPOINT, resaved(tmp_path, {"state_dict": towers})):
        model = load_reference_checkpoint(path, ModelConfig(pooling="mean"))
        assert isinstance(model.pooling, MeanPooling)


def test_several_heads_are_asked_for():
    model = load_reference_checkpoint(CHECKPOINT, ModelConfig(num_heads=4))
    assert model.pooling.num_heads == 4


def test_missing_and_unexpected_parameters_are_listed(content, tmp_path):
    weights = content["state_dict"]
    del weights["pool_frames.layer_norm3.bias"], weights["clip.text_projection.weight"]
    weights["extra.weight"] = torch.zeros(2)
    with pytest.raises(
        ValueError,
        match=r"changed.pth is not a checkpoint of X-Pool's authors: missing 2 "
        r"\(clip.text_projection.weight, pool_frames.layer_norm3.bias\); "
        r"unexpected 1 \(extra.weight\)$",
    ):
        load_reference_checkpoint(resaved(tmp_path, content))


def test_a_file_of_another_model_is_said_to_be_one(tmp_path):
    other = torch.nn.Linear(2, 2).state_dict()
    with pytest.raises(ValueError, match=r"missing \d+ .* more\); unexpected 2 \(bias, weight\)"):
        load_reference_checkpoint(resaved(tmp_path, other))


def test_a_layer_number_out_of_bounds_costs_nothing(content, tmp_path):
    name = "clip.text_model.encoder.layers.999999999.mlp.fc1.weight"
    content["state_dict"][name] = torch.zeros(2)
    content["state_dict"]["clip.text_projection.weight"] = torch.zeros(())
    with pytest.raises(ValueError, match=r"unexpected 1 \(clip.text_model.encoder.layers.999999"):
        load_reference_checkpoint(resaved(tmp_path, content))
    del content["state_dict"][name]
    with pytest.raises(ValueError, match="do not fit each other"):
        load_reference_checkpoint(resaved(tmp_path, content))


def test_parameters_that_do_not_fit_each_other(content, tmp_path):
    content["state_dict"]["pool_frames.linear_proj.weight"] = torch.zeros(3, 3)
    with pytest.raises(ValueError, match=r"do not fit each other: .*linear_proj.weight"):
        load_reference_checkpoint(resaved(tmp_path, content))


class Exploit:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_code_in_a_file_is_not_run(tmp_path):
    target = tmp_path / "was run"
    torch.save({"state_dict": Exploit(target)}, tmp_path / "bad.pth")
    (tmp_path / "old.pth").write_bytes(pickle.dumps({"state_dict": Exploit(target)}))
    for name in ("bad.pth", "old.pth"):
        with pytest.raises(ValueError, match=f"{name} cannot be read as weights without running"):
            load_reference_checkpoint(tmp_path / name)
    assert not target.exists()


def test_files_that_are_no_checkpoints(tmp_path):
    (tmp_path / "text.pth").write_text("hello")
    shutil.copy(CHECKPOINT, tmp_path / "cut.pth")
    with (tmp_path / "cut.pth").open("r+b") as file:
        file.truncate(1000)
    for letter in "sta(":  # opcodes of a pickle that takes from an empty stack
        (tmp_path / f"{letter}.pth").write_text(letter + "tart")
    for name in ("text.pth", "cut.pth", "s.pth", "t.pth", "a.pth"):
        with pytest.raises(ValueError, match=f"{name} cannot be read"):
            load_reference_checkpoint(tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"list.pth holds a list and no `state_dict`"):
        load_reference_checkpoint(tmp_path / "list.pth")
    with pytest.raises(ValueError, match=re.escape(f"there is no checkpoint {tmp_path / 'no'}")):
        load_reference_checkpoint(tmp_path / "no")
