"""A checkpoint in MLflow as a model that loads without this project, and its registration."""

import _thread
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import environment, make_environment
from mlflow.tracking import MlflowClient

from videos import write_video
from xpool.clip import build_tokenizer
from xpool.metrics import retrieval_ranks
from xpool.model import XPool, build_model
from xpool.scoring import score_matrix
from xpool_platform.checkpoint import CheckpointKeeper, TrainingFile, load_checkpoint
from xpool_platform.checkpoint_files import CheckpointState
from xpool_platform.config import ExperimentConfig, TrackingConfig
from xpool_platform.data.decode_guard import DecodeGuard
from xpool_platform.data.frame_store import write_frames
from xpool_platform.data.kept_frames import Decoding
from xpool_platform.data.video import FrameSettings
from xpool_platform.errors import UserError
from xpool_platform.evaluate.encode import encode_split
from xpool_platform.experiments import shapes
from xpool_platform.result_files import ranks_table
from xpool_platform.tracking.champion import beats_champion
from xpool_platform.tracking.logged_model import MeasuredOn, log_model
from xpool_platform.tracking.model_folder import save_model_folder
from xpool_platform.tracking.model_registry import register
from xpool_platform.tracking.needed_code import needed_code

TEXTS = ["a red circle", "two blue squares move to the left", "nothing at all"]

LOADED_ELSEWHERE = """
import json, sys, types
from pathlib import Path

events = []
def watch(event, arguments):
    if event == "pickle.find_class":
        events.append(repr(arguments))
sys.addaudithook(watch)

import mlflow.pyfunc
import psutil
import torch

def refused(*_, **__):
    raise AssertionError("torch.load was called")
torch.load = refused

uri, folder, request = sys.argv[1:]
model = mlflow.pyfunc.load_model(uri, dst_path=folder)
example = json.loads(Path(folder, "input_example.json").read_text())
request = json.loads(request)
scores = model.predict(request)["scores"][0]
example_scores = model.predict(example)["scores"][0]

from mlflow.pyfunc.scoring_server import invocations
import xpool_platform.data.decode_child  # runs in the child
body = Path(folder, "serving_input_example.json").read_text()
answer = invocations(body, "application/json", model, model.metadata.get_input_schema())
ours = {name for name in sys.modules if name.split(".")[0] in ("xpool", "xpool_platform")}
print(json.dumps({
    "scores": scores,
    "example_scores": example_scores,
    "served": json.loads(answer.response)["predictions"][0]["scores"],
    "elsewhere": [n for n in ours if not Path(sys.modules[n].__file__).is_relative_to(folder)],
    "child": [c.environ()["PYTHONPATH"] for c in psutil.Process().children()],
    "modules": sorted(ours | ({"ray"} & set(sys.modules))),
    "unpickled": events,
}))
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    """A tiny model that was never trained, under the data settings of `shapes`."""
    torch.manual_seed(3)
    config = replace(
        shapes(),
        output_dir="/mine/outputs",
        data=replace(shapes().data, root="/mine/videos"),
        model=replace(shapes().model, clip_pretrained="/mine/clip.pt"),
        tracking=TrackingConfig(uri="http://name:secret@server"),
    )
    model = build_model(config.model, load_pretrained=False)
    keeper = CheckpointKeeper(str(tmp_path_factory.mktemp("run") / "checkpoints"))
    state = CheckpointState(step=7, score=12.5)
    keeper.add(model, config, state, TrainingFile({}, {}))
    keeper.wait()
    return keeper.of_step(7)


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> list[str]:
    """Wide, high, square, long and short ones."""
    folder = tmp_path_factory.mktemp("a corpus")
    sizes = {"wide": ((160, 96), 40), "high one": ((96, 160), 33), "long": ((64, 64), 300)}
    paths = [write_video(folder / f"{n}.mp4", num, size=s) for n, (s, num) in sizes.items()]
    return [str(path) for path in [*paths, write_video(folder / "short.mp4", 5)]]


def platform_scores(model: XPool, config: ExperimentConfig, rows: list[dict]) -> np.ndarray:
    """Scores by the way that evaluations go, of TEXTS with videos whose frames are at a URI."""
    captions = [TEXTS, *[[]] * (len(rows) - 1)]
    embeds = encode_split(
        model,
        build_tokenizer(config.model),
        pa.Table.from_pylist(
            [{**row, "captions": own} for row, own in zip(rows, captions, strict=True)]
        ),
        num_frames=config.data.num_frames,
        batch_size=3,
        device=torch.device("cpu"),
        rank=0,
        world_size=1,
        gather_rows=lambda own, _: own,
    )
    return score_matrix(model.pooling, embeds.text_embeds, embeds.frame_embeds).numpy()


@pytest.fixture(scope="module")
def expected(checkpoint, videos, tmp_path_factory) -> np.ndarray:
    """The scores on frames from a frame store."""
    model, config, _ = load_checkpoint(checkpoint)
    store = tmp_path_factory.mktemp("frames")
    guard = DecodeGuard(60, 2**32)
    rows = []
    for i, path in enumerate(videos):
        decoded = guard.encode(path, FrameSettings.of(config.data))
        write_frames(f"{store}/{i}.parquet", decoded)
        rows.append({"frames_uri": f"{store}/{i}.parquet", "num_frames": len(decoded.jpegs)})
    guard.close()
    return platform_scores(model, config, rows)


@pytest.fixture(scope="module")
def saved(checkpoint, videos, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    save_model_folder(folder, checkpoint, texts=TEXTS[:2], videos=videos[1:3])
    return folder


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory) -> Path:
    """MLflow's tables, which take seconds to make."""
    path = tmp_path_factory.mktemp("store") / "store.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def client(empty_store, tmp_path) -> MlflowClient:
    shutil.copyfile(empty_store, tmp_path / "store.db")
    return MlflowClient(f"sqlite:///{tmp_path}/store.db")


@pytest.fixture(autouse=True)
def _own_path(monkeypatch):
    """MLflow leaves the code of each model that it loads on the path, for all tests to come."""
    monkeypatch.setattr(sys, "path", [*sys.path])


def new_run(client: MlflowClient, tmp_path: Path) -> str:
    found = client.get_experiment_by_name("models")
    place = (tmp_path / "artifacts").as_uri() if client.tracking_uri.startswith("sqlite") else None
    experiment = found.experiment_id if found else client.create_experiment("models", place)
    return client.create_run(experiment).info.run_id


def loaded_elsewhere(uri: str, tmp_path: Path, videos: list[str], tracking_uri: str) -> dict:
    """What a process without this project finds."""
    request = {"texts": TEXTS, "videos": [videos[0], *(Path(v).as_uri() for v in videos[1:])]}
    target = tmp_path / "downloaded"
    target.mkdir()
    done = subprocess.run(
        [
            make_environment(tmp_path / "environment"),
            *("-c", LOADED_ELSEWHERE, uri, str(target), json.dumps(request)),
        ],
        cwd=tmp_path,
        env={
            **{k: v for k, v in environment().items() if k != "PYTHONPATH"},
            "MLFLOW_TRACKING_URI": tracking_uri,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["child"] == [os.pathsep.join([str(target / "code")] * 2)]
    return found


def check_found(found: dict, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found["scores"], expected, atol=1e-5)
    np.testing.assert_allclose(found["example_scores"], expected[:2, 1:3], atol=1e-5)
    assert found["served"] == found["example_scores"]
    assert found["elsewhere"] == []
    assert found["unpickled"] == []
    assert "xpool_platform.packaged_model" in found["modules"]
    needed = needed_code(["xpool_platform.packaged_model", "xpool_platform.data.decode_child"])
    files = (place.removesuffix(".py").removesuffix("/__init__") for place in needed.files)
    assert found["modules"] == sorted(name.replace("/", ".") for name in files)  # ray is not there


def test_the_scores_tell_texts_and_videos_apart(expected):
    assert np.ptp(expected, axis=0).min() > 1e-3
    assert np.ptp(expected, axis=1).min() > 1e-3


def test_a_logged_model_loads_where_this_project_is_not(client, folder, expected, videos, tmp_path):
    run_id = new_run(client, tmp_path)
    model_id = log_model(client, folder, run_id=run_id, name="retrieval", params={}, metrics={})
    found = loaded_elsewhere(f"models:/{model_id}", tmp_path, videos, client.tracking_uri)
    check_found(found, expected)


def test_the_folder_is_weights_text_and_code_of_its_own(saved):
    files = [path for path in saved.rglob("*") if path.is_file()]
    kinds = {path.suffix or path.name for path in files}
    assert kinds == {".safetensors", ".json", ".yaml", ".txt", ".py", "MLmodel"}
    code = {str(path.relative_to(saved / "code")) for path in files if path.suffix == ".py"}
    assert "xpool_platform/data/decode_child.py" in code
    assert not [name for name in code if re.search(r"/(train|tune|evaluate|tracking)/", name)]
    for name in code:
        source = (saved / "code" / name).read_text()
        assert not re.search(r"^\s*(import|from) (ray|mlflow|tyro)\b", source, re.MULTILINE), name
    wanted = (saved / "requirements.txt").read_text().split()
    assert all("==" in each for each in wanted)
    names = {each.split("==")[0] for each in wanted}
    assert {"torch", "torchvision", "open_clip_torch", "av", "simplejpeg", "safetensors"} <= names
    assert not names & {"ray", "decord", "optuna", "tyro", "rich"}


def test_no_path_and_no_address_goes_with_a_model(saved, checkpoint):
    was = json.loads(Path(checkpoint, "config.json").read_text())
    now = json.loads((saved / "data" / "checkpoint" / "config.json").read_text())
    assert (now["eval"], now["data"]["num_frames"]) == (was["eval"], was["data"]["num_frames"])
    for path in saved.rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".safetensors"):
            assert not re.search("/mine/|secret", path.read_text()), path


def test_damaged_weights_are_refused(folder):
    weights = folder / "data" / "checkpoint" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors is not what was written"):
        mlflow.pyfunc.load_model(str(folder))


def test_rows_of_a_table_are_scored_each_for_itself(saved, videos, expected):
    model = mlflow.pyfunc.load_model(str(saved))
    rows = {"texts": [TEXTS[:1], TEXTS], "videos": [videos, videos[2:]]}
    scores = model.predict(pd.DataFrame(rows))["scores"]
    np.testing.assert_allclose(scores[0], expected[:1], atol=1e-5)
    np.testing.assert_allclose(scores[1], expected[:, 2:], atol=1e-5)


def test_what_cannot_be_scored_is_named(saved, videos, tmp_path):
    model = mlflow.pyfunc.load_model(str(saved))
    (tmp_path / "no video.mp4").write_text("hello")
    for name, reason in {
        f"{tmp_path}/no video.mp4": r"no video\.mp4' cannot be decoded \(not-a-video: it is a text",
        f"{tmp_path}/absent.mp4": r"absent\.mp4' cannot be decoded \(not-a-video: No such file",
        "https://example.org/a.mp4": r"a\.mp4' is no local file; give a path or a file:// URI",
    }.items():
        with pytest.raises(UserError, match=reason):
            model.predict({"texts": TEXTS, "videos": [videos[0], name]})
    with pytest.raises(UserError, match="texts is empty; give one string or more"):
        model.predict({"texts": [], "videos": videos})
    with pytest.raises(UserError, match="device 'cuda:99', and torch cannot use it"):
        mlflow.pyfunc.load_model(str(saved), model_config={"device": "cuda:99"})


def test_an_interrupt_leaves_no_frames_for_the_next_video(saved, videos, expected):
    model = mlflow.pyfunc.load_model(str(saved))
    threading.Timer(0.1, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        model.predict({"texts": TEXTS, "videos": [videos[2]]})
    scores = model.predict({"texts": TEXTS, "videos": [videos[0]]})["scores"][0]
    np.testing.assert_allclose(scores, expected[:, :1], atol=1e-5)


def test_without_a_frame_store_frames_were_no_jpeg(checkpoint, videos, expected, tmp_path):
    model, config, state = load_checkpoint(checkpoint)
    plain = replace(config, data=replace(config.data, cache="none"))
    keeper = CheckpointKeeper(str(tmp_path / "checkpoints"))
    keeper.add(model, plain, state, TrainingFile({}, {}))
    keeper.wait()
    save_model_folder(tmp_path / "model", keeper.of_step(7), texts=TEXTS, videos=videos)
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    guard = DecodeGuard(60, 2**32)
    settings = FrameSettings.of(plain.data)
    rows = []
    for path in videos:
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
    found = np.array(loaded.predict({"texts": TEXTS, "videos": videos})["scores"][0])
    np.testing.assert_allclose(found, platform_scores(model, plain, rows), atol=1e-5)
    assert np.abs(found - expected).max() > 1e-5


def ready_models(client: MlflowClient) -> list[str]:
    experiment = client.get_experiment_by_name("models")
    found = client.search_logged_models([experiment.experiment_id])
    assert {model.status for model in found} <= {"READY"}
    return [model.model_id for model in found]


def test_a_model_is_logged_once_with_its_metrics(client, folder, tmp_path):
    run_id = new_run(client, tmp_path)
    client.log_metric(run_id, "test/t2v/R1", 40.0, timestamp=1000, step=3)
    client.log_metric(run_id, "test/t2v/R1", 41.5, timestamp=2000, step=5)
    once = {
        "run_id": run_id,
        "name": "retrieval",
        "params": {f"train.option_{i}": i for i in range(150)},
        "metrics": {"test/t2v/R1": 41.5, "best/step": 7.0},
        "measured_on": MeasuredOn(name="shapes test", digest="abc123"),
    }
    model_id = log_model(client, folder, **once)
    assert log_model(client, folder, **once) == model_id
    assert ready_models(client) == [model_id]
    model = client.get_logged_model(model_id)
    assert model.params["train.option_149"] == "149"
    found = {metric.key: metric for metric in model.metrics}
    assert set(found) == {"test/t2v/R1", "best/step"}
    metric = found["test/t2v/R1"]
    assert (metric.value, metric.step, metric.timestamp) == (41.5, 5, 2000)
    assert (metric.dataset_name, metric.dataset_digest) == ("shapes test", "abc123")
    history = client.get_metric_history(run_id, "test/t2v/R1")
    assert [(each.value, each.step) for each in history] == [(40.0, 3), (41.5, 5)]
    run = client.get_run(run_id)
    assert run.data.metrics["best/step"] == 7.0
    assert [output.model_id for output in run.outputs.model_outputs] == [model_id]
    assert mlflow.pyfunc.load_model(str(folder)).metadata.model_id == model_id


@pytest.mark.parametrize("step", ["log_model_artifacts", "log_batch", "finalize_logged_model"])
def test_a_model_that_was_half_logged_is_finished(step, client, folder, tmp_path, monkeypatch):
    run_id = new_run(client, tmp_path)
    what = {"run_id": run_id, "name": "retrieval", "params": {"a": 1}, "metrics": {"r": 1.0}}

    def away(*_args, **_kwargs):
        raise ConnectionError("the server is away")

    with monkeypatch.context() as patch:
        patch.setattr(client, step, away)
        with pytest.raises(ConnectionError):
            log_model(client, folder, **what)
    model_id = log_model(client, folder, **what)
    assert ready_models(client) == [model_id]
    assert len(client.get_logged_model(model_id).metrics) == 1
    assert len(client.get_metric_history(run_id, "r")) == 1
    assert len(client.get_run(run_id).outputs.model_outputs) == 1


def test_other_weights_of_the_same_run_are_another_model(client, folder, checkpoint, tmp_path):
    run_id = new_run(client, tmp_path)
    model, config, _ = load_checkpoint(checkpoint)
    with torch.no_grad():
        model.logit_scale.add_(1)
    keeper = CheckpointKeeper(str(tmp_path / "checkpoints"))
    keeper.add(model, config, CheckpointState(step=9), TrainingFile({}, {}))
    keeper.wait()
    later = tmp_path / "later"
    save_model_folder(later, keeper.of_step(9), texts=TEXTS, videos=["a.mp4"])
    what = {"run_id": run_id, "name": "retrieval", "params": {}, "metrics": {}}
    ids = [log_model(client, each, **what) for each in (folder, later, folder)]
    assert ids[0] == ids[2] != ids[1]
    assert set(ready_models(client)) == set(ids)


NUM_VIDEOS = 60


def logged_ranks(
    client: MlflowClient, run_id: str, tmp_path: Path, num_first: int, *, prefix: str = "video"
) -> str:
    """A run's ranks.parquet in which so many of the queries rank their video first."""
    scores = np.eye(NUM_VIDEOS)
    for i in range(num_first, NUM_VIDEOS):
        scores[i, (i + 1) % NUM_VIDEOS] = 2
    videos = [f"{prefix}{i}" for i in range(NUM_VIDEOS)]
    ranks = retrieval_ranks(scores, np.arange(NUM_VIDEOS))
    table = ranks_table({"plain": ranks}, scores, videos, [f"caption {i}" for i in videos])
    path = tmp_path / run_id / "ranks.parquet"
    path.parent.mkdir()
    pq.write_table(table, path)
    client.log_artifact(run_id, str(path), "evaluations/some")
    return "evaluations/some/ranks.parquet"


def registered(client: MlflowClient, folder: Path, tmp_path: Path, *ranked, **queries):
    run_id = new_run(client, tmp_path)
    model_id = log_model(client, folder, run_id=run_id, name="best", params={}, metrics={})
    ranks = logged_ranks(client, run_id, tmp_path, *ranked, **queries)
    what = {"model_id": model_id, "run_id": run_id, "ranks": ranks, "beats": beats_champion}
    found = register(client, "retrieval", **what)
    assert register(client, "retrieval", **what).version == found.version
    assert client.get_model_version("retrieval", found.version).status == "READY"
    return found


def check_source(client: MlflowClient, version: str) -> None:
    """The version is of a logged model, whose page names the version."""
    source = client.get_model_version("retrieval", version).source
    assert re.fullmatch("models:/m-[0-9a-f]+", source)
    tags = client.get_logged_model(source.removeprefix("models:/")).tags
    named = [{"name": "retrieval", "version": int(version)}]
    assert json.loads(tags["mlflow.modelVersions"]) == named


def test_only_a_significantly_better_version_becomes_the_champion(
    client, folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)

    def champion() -> str:
        return str(client.get_model_version_by_alias("retrieval", "champion").version)

    first = registered(client, folder, tmp_path, 30)
    assert (first.version, first.is_champion, champion()) == ("1", True, "1")
    assert first.sentence == "version 1 of retrieval is registered as its first champion"

    worse = registered(client, folder, tmp_path, 20)
    assert (worse.version, worse.is_champion, champion()) == ("2", False, "1")
    assert "champion stays version 1: t2v R@1 differs by -16.7 (95 % interval" in worse.sentence
    by_chance = registered(client, folder, tmp_path, 31)
    assert (by_chance.is_champion, champion()) == (False, "1")
    assert by_chance.sentence.endswith("which is no significant gain")

    better = registered(client, folder, tmp_path, 45)
    assert (better.version, better.is_champion, champion()) == ("4", True, "4")
    assert "is the new champion instead of version 1: t2v R@1 differs by +25.0" in better.sentence

    elsewhere = registered(client, folder, tmp_path, 60, prefix="another ")
    assert (elsewhere.is_champion, champion()) == (False, "4")
    assert elsewhere.sentence == (
        "version 5 of retrieval is registered; champion stays version 4: it was measured on other "
        "queries, so that the two cannot be compared"
    )
    check_source(client, "4")
    assert not Path("mlflow.db").exists()


def test_a_champion_without_ranks_is_left_where_it_is(client, folder, tmp_path):
    first = registered(client, folder, tmp_path, 10)
    run_id = client.get_model_version("retrieval", first.version).run_id
    shutil.rmtree(tmp_path / "artifacts" / run_id)
    second = registered(client, folder, tmp_path, 60)
    assert not second.is_champion
    assert "its ranks cannot be had from MLflow" in second.sentence
    client.delete_model_version_tag("retrieval", first.version, "ranks")
    third = registered(client, folder, tmp_path, 60)
    assert third.sentence.endswith("it was registered by hand, without ranks to compare with")


@contextlib.contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """A server of its own on this machine, that hands out the artifacts, too."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        *("mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--serve-artifacts"),
        *("--backend-store-uri", f"sqlite:///{folder}/server.db", "--workers", "1"),
        *("--artifacts-destination", str(folder / "kept")),
    ]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            command,
            env=environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"),
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
        )
        try:
            uri = f"http://127.0.0.1:{port}"
            wait_until_healthy(uri, server)
            yield uri
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)


def wait_until_healthy(uri: str, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert server.poll() is None
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{uri}/health", timeout=5):
            return
        time.sleep(0.2)
    raise TimeoutError(uri)


def test_a_server_keeps_the_model_and_names_the_champion(folder, expected, videos, tmp_path):
    with mlflow_server(tmp_path) as uri:
        client = MlflowClient(uri)
        first = registered(client, folder, tmp_path, 30)
        assert first.is_champion
        assert not registered(client, folder, tmp_path, 31).is_champion
        check_source(client, "2")
        found = loaded_elsewhere("models:/retrieval@champion", tmp_path, videos, uri)
    check_found(found, expected)
