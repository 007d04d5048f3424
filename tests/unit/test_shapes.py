from pathlib import Path

import numpy as np
import pytest

from xpool_platform.data.pyav_decoder import decode_with_pyav
from xpool_platform.data.shapes import (
    ALL_SCENES,
    ShapesVideo,
    _encode,
    draw_video,
    plan_videos,
)
from xpool_platform.data.video import FrameSettings
from xpool_platform.data_config import ShapesConfig


def test_no_two_held_out_videos_share_a_scene():
    videos = plan_videos(ShapesConfig())
    assert len(videos) == 1500
    for split in ("val", "test"):
        scenes = [scene for v in videos if v.split == split for scene in v.scenes]
        assert len(set(scenes)) == len(scenes)
    assert all(len(set(video.scenes)) == 3 for video in videos)
    assert len({scene.caption() for scene in ALL_SCENES}) == len(ALL_SCENES) == 896


def test_the_largest_held_out_splits_still_share_no_scene():
    videos = plan_videos(ShapesConfig(num_train=1, num_val=298, num_test=298))
    scenes = [scene for v in videos if v.split == "test" for scene in v.scenes]
    assert len(set(scenes)) == len(scenes) == 894


def test_all_scenes_look_different():
    """Every scene is told from every other by its picture alone, wherever its shape is."""
    config = ShapesConfig(frames_per_scene=1)
    pictures = set()
    for scene in ALL_SCENES:
        pictures.add(draw_video(ShapesVideo("x.mp4", "train", (scene,), (0,)), config).tobytes())
    assert len(pictures) == len(ALL_SCENES)


def test_files_are_the_same_every_time_and_decode_to_what_was_drawn(tmp_path: Path):
    config = ShapesConfig(num_train=6, num_val=1, num_test=1)
    settings = FrameSettings(decoder="pyav", frames_per_second=12, min_frames=1, short_side=64)
    for video in plan_videos(config):
        drawn = draw_video(video, config)
        paths = [tmp_path / f"{i}_{video.name}" for i in range(3)]
        for path in paths:
            _encode(path, drawn)
        assert len({path.read_bytes() for path in paths}) == 1
        decoded = decode_with_pyav(str(paths[0]), settings, None, None, lambda picture: picture)
        frames = np.stack(decoded.frames)
        assert frames.shape == drawn.shape
        assert np.abs(frames.astype(int) - drawn).mean() < 8
        np.testing.assert_allclose(decoded.times_s, np.arange(36) / 12, atol=1e-6)


def test_the_seed_makes_the_corpus():
    one, same, other = (plan_videos(ShapesConfig(seed=seed)) for seed in (0, 0, 1))
    assert one == same
    assert one != other
    pictures = [draw_video(videos[0], ShapesConfig()) for videos in (one, same, other)]
    assert (pictures[0] == pictures[1]).all()
    assert not (pictures[0] == pictures[2]).all()


@pytest.mark.parametrize("split", ["train", "test"])
def test_drift_keeps_the_shape_in_the_picture(split):
    video = next(v for v in plan_videos(ShapesConfig()) if v.split == split)
    frames = draw_video(video, ShapesConfig())
    for scene_frames in np.split(frames, 3):
        counts = [len(np.unique(frame.reshape(-1, 3), axis=0)) for frame in scene_frames]
        assert counts == [2] * len(counts)
