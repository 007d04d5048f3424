"""Checkpoints: whole or not there."""

import torch

from xpool.model import build_model
from xpool_platform.checkpoint import (
    CheckpointKeeper,
    load_checkpoint,
    save_checkpoint,
)
from xpool_platform.checkpoint_files import CheckpointState
from xpool_platform.experiments import shapes


def test_a_checkpoint_comes_back_whole(tmp_path):
    torch.manual_seed(0)
    config = shapes()
    model = build_model(config.model, config.loss)
    save_checkpoint(tmp_path / "one", model, config, CheckpointState(step=7, score=12.5))
    loaded, loaded_config, state = load_checkpoint(tmp_path / "one")
    assert loaded_config == config
    assert state == CheckpointState(step=7, score=12.5)
    assert not loaded.training
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_the_last_and_the_best_are_kept(tmp_path):
    config = shapes()
    model = build_model(config.model, config.loss)
    keeper = CheckpointKeeper(tmp_path)
    kept = []
    for step, score in ((1, 10.0), (2, 30.0), (3, 20.0), (4, 30.0), (5, 40.0)):
        keeper.add(model, config, CheckpointState(step=step, score=score))
        kept.append(sorted(int(path.name.removeprefix("step_")) for path in tmp_path.iterdir()))
    assert kept == [[1], [2], [2, 3], [2, 4], [5]]
    assert keeper.best is keeper.last
