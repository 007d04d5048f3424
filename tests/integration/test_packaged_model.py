"""A checkpoint as a model's folder: what lies in it, and what a process that loads it can do."""

import _thread
import json
import re
import shutil
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from tiny_model import TEXTS, TinyModel, platform_scores, tiny_model

from xpool_platform.checkpoint import CheckpointKeeper, TrainingFile, load_checkpoint
from xpool_platform.data.decode_guard import DecodeGuard
from xpool_platform.data.kept_frames import Decoding
from xpool_platform.data.video import FrameSettings
from xpool_platform.errors import UserError
from xpool_platform.tracking.model_folder import save_model_folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> TinyModel:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def _own_path(monkeypatch):
    """MLflow leaves the code of each model that it loads on the path, for all tests to come."""
    monkeypatch.setattr(sys, "path", [*sys.path])


def test_the_scores_tell_texts_and_videos_apart(tiny):
    assert np.ptp(tiny.scores, axis=0).min() > 1e-3
    assert np.ptp(tiny.scores, axis=1).min() > 1e-3


def test_the_folder_is_weights_text_and_code_of_its_own(tiny):
    files = [path for path in tiny.folder.rglob("*") if path.is_file()]
    kinds = {path.suffix or path.name for path in files}
    assert kinds == {".safetensors", ".json", ".yaml", ".txt", ".py", "MLmodel"}
    code = {str(path.relative_to(tiny.folder / "code")) for path in files if path.suffix == ".py"}
    assert "xpool_platform/data/decode_child.py" in code
    assert not [name for name in code if re.search(r"/(train|tune|evaluate|tracking)/", name)]
    for name in code:
        source = (tiny.folder / "code" / name).read_text()
        assert not re.search(r"^\s*(import|from) (ray|mlflow|tyro)\b", source, re.MULTILINE), name
    wanted = (tiny.folder / "requirements.txt").read_text().split()
    assert all("==" in each for each in wanted)
    names = {each.split("==")[0] for each in wanted}
    assert {"torch", "torchvision", "open_clip_torch", "av", "simplejpeg", "safetensors"} <= names
    assert not names & {"ray", "decord", "optuna", "tyro", "rich"}


def test_no_path_and_no_address_goes_with_a_model(tiny):
    was = json.loads(Path(tiny.checkpoint, "config.json").read_text())
    now = json.loads((tiny.folder / "data" / "checkpoint" / "config.json").read_text())
    assert (now["eval"], now["data"]["num_frames"]) == (was["eval"], was["data"]["num_frames"])
    for path in tiny.folder.rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".safetensors"):
            assert not re.search("/mine/|secret", path.read_text()), path


def test_damaged_weights_are_refused(tiny, tmp_path):
    folder = shutil.copytree(tiny.folder, tmp_path / "model")
    weights = folder / "data" / "checkpoint" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors is not what was written"):
        mlflow.pyfunc.load_model(str(folder))


def test_rows_of_a_table_are_scored_each_for_itself(tiny):
    model = mlflow.pyfunc.load_model(str(tiny.folder))
    rows = {"texts": [TEXTS[:1], TEXTS], "videos": [tiny.videos, tiny.videos[2:]]}
    scores = model.predict(pd.DataFrame(rows))["scores"]
    np.testing.assert_allclose(scores[0], tiny.scores[:1], atol=1e-5)
    np.testing.assert_allclose(scores[1], tiny.scores[:, 2:], atol=1e-5)


def test_what_cannot_be_scored_is_named(tiny, tmp_path):
    model = mlflow.pyfunc.load_model(str(tiny.folder))
    (tmp_path / "no video.mp4").write_text("hello")
    for name, reason in {
        f"{tmp_path}/no video.mp4": r"no video\.mp4' cannot be decoded \(not-a-video: it is a text",
        f"{tmp_path}/absent.mp4": r"absent\.mp4' cannot be decoded \(not-a-video: No such file",
        "https://example.org/a.mp4": r"a\.mp4' is no file that is read here; give a path, or a URI",
    }.items():
        with pytest.raises(UserError, match=reason):
            model.predict({"texts": TEXTS, "videos": [tiny.videos[0], name]})
    with pytest.raises(UserError, match="texts is empty; give one string or more"):
        model.predict({"texts": [], "videos": tiny.videos})
    with pytest.raises(UserError, match="device 'cuda:99', and torch cannot use it"):
        mlflow.pyfunc.load_model(str(tiny.folder), model_config={"device": "cuda:99"})


def test_an_interrupt_leaves_no_frames_for_the_next_video(tiny):
    model = mlflow.pyfunc.load_model(str(tiny.folder))
    # a shell that runs the tests in the background leaves SIGINT ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Timer(0.1, _thread.interrupt_main).start()
        with pytest.raises(KeyboardInterrupt):
            model.predict({"texts": TEXTS, "videos": [tiny.videos[2]]})
    finally:
        signal.signal(signal.SIGINT, before)
    scores = model.predict({"texts": TEXTS, "videos": [tiny.videos[0]]})["scores"][0]
    np.testing.assert_allclose(scores, tiny.scores[:, :1], atol=1e-5)


def test_without_a_frame_store_frames_were_no_jpeg(tiny, tmp_path):
    model, config, state = load_checkpoint(tiny.checkpoint)
    plain = replace(config, data=replace(config.data, cache="none"))
    keeper = CheckpointKeeper(str(tmp_path / "checkpoints"))
    keeper.add(model, plain, state, TrainingFile({}, {}))
    keeper.wait()
    save_model_folder(tmp_path / "model", keeper.of_step(7), texts=TEXTS, videos=tiny.videos)
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    guard = DecodeGuard(60, 2**32)
    settings = FrameSettings.of(plain.data)
    rows = []
    for path in tiny.videos:
        decoding = Decoding(
            path=path,
            start_s=None,
            end_s=None,
            settings=settings,
            deadline_s=60,
            memory_bytes=2**32,
        )
        num_frames = len(guard.decode(path, settings).frames)
        rows.append({"frames_uri": decoding.uri(), "num_frames": num_frames})
    guard.close()
    found = np.array(loaded.predict({"texts": TEXTS, "videos": tiny.videos})["scores"][0])
    np.testing.assert_allclose(found, platform_scores(model, plain, rows), atol=1e-5)
    assert np.abs(found - tiny.scores).max() > 1e-5
