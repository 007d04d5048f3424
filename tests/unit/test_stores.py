"""The frame cache and checkpoints: whole or not there."""

import os

import numpy as np
import pytest
import torch

from xpool.model import build_model
from xpool_platform.checkpoint import (
    CheckpointKeeper,
    load_checkpoint,
    save_checkpoint,
)
from xpool_platform.checkpoint_files import CheckpointState
from xpool_platform.data.frame_cache import frames_path, num_frames, read_frames, write_frames
from xpool_platform.data.video import DecodedVideo, FrameSettings
from xpool_platform.experiments import shapes

SETTINGS = FrameSettings(decoder="pyav", frames_per_second=3.0, min_frames=12, short_side=48)


@pytest.fixture
def video():
    frames = np.random.default_rng(0).integers(0, 256, (5, 8, 10, 3), dtype=np.uint8)
    return DecodedVideo(frames=frames, times_s=np.arange(5.0))


def test_frames_come_back_by_index_in_any_order(tmp_path, video):
    path = tmp_path / "ab" / "abc.safetensors"
    assert num_frames(path) == 0
    write_frames(path, video)
    assert num_frames(path) == 5
    assert (read_frames(path, [3, 0, 3]) == video.frames[[3, 0, 3]]).all()
    assert [p.name for p in path.parent.iterdir()] == ["abc.safetensors"]


def test_a_damaged_cache_file_counts_as_missing(tmp_path, video):
    path = tmp_path / "abc.safetensors"
    write_frames(path, video)
    path.write_bytes(path.read_bytes()[:100])
    assert num_frames(path) == 0


def test_a_write_that_fails_leaves_nothing(tmp_path, video, monkeypatch):
    monkeypatch.setattr(
        "xpool_platform.data.frame_cache.save_file",
        lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")),
    )
    with pytest.raises(OSError, match="No space left"):
        write_frames(tmp_path / "abc.safetensors", video)
    assert list(tmp_path.iterdir()) == []


def test_the_name_changes_with_the_file_the_segment_and_the_settings(tmp_path):
    file = tmp_path / "a.mp4"
    file.write_bytes(b"one")
    names = {frames_path(tmp_path, SETTINGS, str(file), None, None)}
    names.add(frames_path(tmp_path, SETTINGS, str(file), 1.0, None))
    other = FrameSettings(decoder="decord", frames_per_second=3.0, min_frames=12, short_side=48)
    names.add(frames_path(tmp_path, other, str(file), None, None))
    os.utime(file, ns=(1, 1))
    names.add(frames_path(tmp_path, SETTINGS, str(file), None, None))
    file.write_bytes(b"other")
    os.utime(file, ns=(1, 1))
    names.add(frames_path(tmp_path, SETTINGS, str(file), None, None))
    assert len(names) == 5


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
