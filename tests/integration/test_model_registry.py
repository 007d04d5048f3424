"""Versions of a registered model, and which of them is its champion."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from loaded_elsewhere import loaded_elsewhere
from mlflow.tracking import MlflowClient
from served_mlflow import served_mlflow
from tiny_model import TEXTS, TinyModel, tiny_model

from recorded import record_run
from xpool.metrics import retrieval_ranks
from xpool_platform.result_files import ranks_table
from xpool_platform.tracking.champion import beats_champion
from xpool_platform.tracking.logged_model import log_model
from xpool_platform.tracking.model_registry import register


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> TinyModel:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def folder(tiny, tmp_path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(tiny.folder, tmp_path / "model"))


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
    artifacts = tmp_path / "artifacts" if client.tracking_uri.startswith("sqlite") else None
    run_id = record_run(client, "run", None, artifacts=artifacts, status="RUNNING")
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


@pytest.mark.slow
def test_a_server_keeps_the_model_and_names_the_champion(folder, tiny, tmp_path):
    with served_mlflow(tmp_path / "served") as server:
        client = MlflowClient(server.uri)
        first = registered(client, folder, tmp_path, 30)
        assert first.is_champion
        assert not registered(client, folder, tmp_path, 31).is_champion
        check_source(client, "2")
        found = loaded_elsewhere(
            *("models:/retrieval@champion", tmp_path / "elsewhere", server.uri),
            texts=TEXTS,
            videos=tiny.videos,
        )
    np.testing.assert_allclose(found["scores"], tiny.scores, atol=1e-5)
