"""The default experiment against a shared server: PostgreSQL, S3, TLS and a user of one's own."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMALL_SHAPES, Done, evaluate, train
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from secrets_found import Watched, files_with, found_in, processes_watched

from shared_mlflow_server import BUCKET, SharedMlflow, shared_mlflow_server
from videos import write_video
from xpool_platform.checkpoint import load_checkpoint
from xpool_platform.checkpoint_files import best_checkpoint, check_whole, checkpoints_below
from xpool_platform.config_io import config_bytes
from xpool_platform.data.frame_store import read_frames
from xpool_platform.errors import UserError
from xpool_platform.locations import files_below, read_whole
from xpool_platform.packaged_model import PackagedModel
from xpool_platform.tracking.mlflow_store import MlflowStore

pytestmark = pytest.mark.ray

USER, STRANGER = "ada", "bob"
RUN = "shared"


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[SharedMlflow]:
    with shared_mlflow_server(tmp_path_factory.mktemp("shared")) as server:
        for name in (USER, STRANGER):
            server.add_user(name)
        yield server


def options(server: SharedMlflow, output: Path) -> tuple[str, ...]:
    return (
        *SMALL_SHAPES,
        *("--output-dir", str(output), "--run-name", RUN, "--tracking.uri", server.uri),
        *("--train.checkpoints-dir", f"{server.bucket_uri}/checkpoints"),
        *("--data.frames-dir", f"{server.bucket_uri}/frames"),
    )


@dataclass(frozen=True)
class Trained:
    """A run of the user's, as the job left it here and as the server tells it."""

    done: Done
    output: Path
    run: Run
    secrets: tuple[str, ...]
    """What the job was given in its environment."""

    watched: Watched
    ray_files: Path
    """Ray's own, its logs among them."""


@contextmanager
def asking_as(server: SharedMlflow, user: str) -> Iterator[MlflowClient]:
    """MLflow's client as a user has it: with a name, a password and no S3 credentials."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.client_environment(user).items():
            patch.setenv(name, value)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
            patch.delenv(name)
        yield MlflowClient(server.uri)


@pytest.fixture(scope="module")
def trained(server, tmp_path_factory) -> Iterator[Trained]:
    output = tmp_path_factory.mktemp("output")
    secrets = (os.environ["AWS_SECRET_ACCESS_KEY"], server.passwords[USER])
    # the paths of Ray's sockets may have 107 characters
    ray_files = Path(tempfile.mkdtemp(prefix="xpool-", dir="/tmp"))
    given = {**server.client_environment(USER), "RAY_TMPDIR": str(ray_files)}
    with processes_watched(secrets) as watched:
        done = train(*options(server, output), **given)
    assert done.status == 0, done.err
    assert done.err == ""
    with asking_as(server, USER) as client:
        experiment = client.get_experiment_by_name("shapes")
        (run,) = client.search_runs([experiment.experiment_id])
    yield Trained(done, output, run, secrets, watched, ray_files)
    shutil.rmtree(ray_files)


def test_the_run_is_whole_on_the_server(server, trained):
    run = trained.run
    assert (run.info.status, run.info.run_name) == ("FINISHED", RUN)
    assert run.data.params["train.batch_size"] == "8"
    results = json.loads((trained.output / "runs" / RUN / "metrics.json").read_text())
    with asking_as(server, USER) as client:
        history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [metric.step for metric in history] == list(range(1, 13))
    for name in ("t2v/R1", "v2t/MnR"):
        assert run.data.metrics[f"test/{name}"] == pytest.approx(results["metrics"][name])
    assert f"{server.uri}/#/experiments/" in trained.done.out


def test_artifacts_come_back_as_they_were(server, trained, tmp_path):
    folder = trained.output / "runs" / RUN
    with asking_as(server, USER) as client:
        there = Path(client.download_artifacts(trained.run.info.run_id, "", str(tmp_path)))
    for name in ("config.json", "ranks.parquet", "report.html"):
        assert (there / name).read_bytes() == (folder / name).read_bytes()
    assert list(there.glob("figures/*.png"))
    best = best_checkpoint(f"{server.bucket_uri}/checkpoints/{RUN}")
    weights = there / "checkpoints" / "best" / "model.safetensors"
    assert weights.read_bytes() == read_whole(f"{best}/model.safetensors").to_pybytes()
    # from the server: a store of its own is out of a client's reach
    assert f"{trained.run.info.run_id}/artifacts/config.json" in server.log.read_text()
    assert "/presigned" not in server.log.read_text()


def test_the_model_loads_from_the_server(server, trained, tmp_path):
    (output,) = trained.run.outputs.model_outputs
    with asking_as(server, USER):
        loaded = mlflow.pyfunc.load_model(f"models:/{output.model_id}")
    asked = {"texts": ["a red square", "a blue circle"], "videos": [str(tmp_path / "video.mp4")]}
    write_video(Path(asked["videos"][0]), 24)
    best = best_checkpoint(f"{server.bucket_uri}/checkpoints/{RUN}")
    own = PackagedModel(best, torch.device("cpu")).predict(pd.DataFrame([asked]))
    scores = loaded.predict(asked)["scores"][0]
    assert np.shape(scores) == (2, 1)
    np.testing.assert_allclose(scores, own["scores"][0], atol=1e-6)


def test_checkpoints_come_back_from_the_store(server, trained):
    kept = checkpoints_below(f"{server.bucket_uri}/checkpoints/{RUN}")
    assert max(kept) == 12
    assert all(check_whole(location).step == step for step, location in kept.items())
    _, config, state = load_checkpoint(kept[max(kept)])
    assert state.run_id == trained.run.info.run_id
    assert config_bytes(config) == (trained.output / "runs" / RUN / "config.json").read_bytes()
    assert not (trained.output / "runs" / RUN / "checkpoints").exists()


def test_frames_come_back_from_the_store(server, trained):
    files = [
        f"s3://{info.path}"
        for info in files_below(f"{server.bucket_uri}/frames")
        if info.path.endswith(".parquet")
    ]
    assert len(files) == 48 + 8 + 12
    frames = read_frames(files[0], [0, 1])
    assert frames.shape[0] == 2
    assert frames.dtype == np.uint8
    assert frames.std() > 0
    assert not (trained.output / "frames").exists()


def test_the_database_and_the_bucket_hold_it_and_no_disk_does(server, trained):
    run_id = trained.run.info.run_id
    rows = server.postgres.rows
    ((artifact_uri,),) = rows("select artifact_uri from runs where run_uuid = %s", run_id)
    assert artifact_uri.startswith("mlflow-artifacts:/")
    ((num_params,),) = rows("select count(*) from params where run_uuid = %s", run_id)
    assert num_params == len(trained.run.data.params) > 50
    ((num_steps,),) = rows(
        "select count(*) from metrics where run_uuid = %s and key = 'train/loss'", run_id
    )
    assert num_steps == 12
    locations = [row[0] for row in rows("select artifact_location from experiments")]
    locations += [row[0] for row in rows("select artifact_location from logged_models")]
    assert all(location.startswith("mlflow-artifacts:/") for location in locations)

    objects = boto3.client("s3").list_objects_v2(Bucket=BUCKET)["Contents"]
    names = [each["Key"] for each in objects]
    experiment = trained.run.info.experiment_id
    assert all(name.startswith(f"of-all/{experiment}/") for name in names)
    assert any(name.endswith(f"{run_id}/artifacts/config.json") for name in names)
    assert any(name.endswith("MLmodel") for name in names)
    # in the folder in which the server runs
    assert {path.name for path in server.log.parent.iterdir()} == {"server.log", "secrets"}


def test_the_secrets_of_a_job_are_nowhere(server, trained):
    assert trained.watched.num_decoding > 0
    assert trained.watched.shown == set()
    assert trained.watched.told == set()
    printed = (trained.done.out + trained.done.err).encode()
    assert found_in(printed, [RUN])
    assert not found_in(printed, trained.secrets)
    for folder, there in ((trained.output, RUN), (trained.ray_files, "raylet")):
        assert files_with(folder, [there])  # what is there is found
        assert files_with(folder, trained.secrets) == []
    assert not found_in(server.log.read_bytes(), trained.secrets)
    client = boto3.client("s3")
    for bucket in (BUCKET, server.bucket_uri.split("/")[2]):
        names = [each["Key"] for each in client.list_objects_v2(Bucket=bucket)["Contents"]]
        for name in names:
            content = client.get_object(Bucket=bucket, Key=name)["Body"].read()
            assert not found_in(content, trained.secrets), name
    tables = server.postgres.rows("select tablename from pg_tables where schemaname = 'public'")
    texts = {name: server.postgres.rows(f'select t::text from "{name}" t') for (name,) in tables}
    assert found_in(str(texts["params"]).encode(), [str(trained.output)])
    held = [name for name, rows in texts.items() if found_in(str(rows).encode(), trained.secrets)]
    assert held == []


def test_a_run_is_evaluated_from_its_checkpoints_in_the_store(server, trained):
    done = evaluate(
        *("--checkpoint", RUN, "--output-dir", str(trained.output), "--run-name", "again"),
        **server.client_environment(USER),
    )
    assert done.status == 0, done.err
    summary = json.loads((trained.output / "evaluations" / "again" / "metrics.json").read_text())
    assert summary["checkpoint"].startswith(f"{server.bucket_uri}/checkpoints/{RUN}/step_")
    trained_metrics = json.loads((trained.output / "runs" / RUN / "metrics.json").read_text())
    for name, value in trained_metrics["metrics"].items():
        assert summary["metrics"][name] == pytest.approx(value, abs=1e-6)


@pytest.mark.usefixtures("trained")
def test_who_may_not_is_told_so(server, tmp_path):
    with asking_as(server, STRANGER), pytest.raises(UserError, match="does not let this user"):
        MlflowStore(server.uri, "shapes", tmp_path)
    with asking_as(server, STRANGER), pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_PASSWORD", "another")
        with pytest.raises(UserError, match="does not know who asks"):
            MlflowStore(server.uri, "shapes", tmp_path)
    with asking_as(server, STRANGER):
        MlflowStore(server.uri, "shapes-of-bob", tmp_path)
