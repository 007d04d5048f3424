"""Weights of the towers in an object store."""

from dataclasses import replace

import pytest
import torch

from object_store import served_bucket
from xpool.config import ModelConfig
from xpool.model import build_model
from xpool_platform.errors import UserError
from xpool_platform.experiments import shapes
from xpool_platform.locations import write_whole
from xpool_platform.pretrained_weights import check_towers
from xpool_platform.train.first_model import first_model


def test_training_begins_with_weights_of_a_bucket(tmp_path):
    towers = build_model(ModelConfig(clip_name="tiny")).clip.state_dict()
    torch.save(towers, tmp_path / "towers.pt")
    with served_bucket("weights") as bucket:
        place = f"{bucket}/towers.pt"
        write_whole(place, (tmp_path / "towers.pt").read_bytes())
        config = replace(shapes(), model=ModelConfig(clip_name="tiny", clip_pretrained=place))
        check_towers(config.model)
        begun = first_model(config).clip.state_dict()
        for name, value in towers.items():
            torch.testing.assert_close(begun[name], value)
        gone = replace(config.model, clip_pretrained=f"{bucket}/gone.pt")
        with pytest.raises(UserError, match=r"gone\.pt' is not there; give a checkpoint file, or"):
            check_towers(gone)
        check_towers(gone, with_weights=False)


def test_towers_that_nobody_knows_are_refused():
    with pytest.raises(UserError, match="'ViT-B-33' is not known to open_clip; nearest"):
        check_towers(ModelConfig(clip_name="ViT-B-33", clip_pretrained="s3://lab/x.pt"))
