"""MLflow's registry: versions of a model, and the one of them that is its champion."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

DEFAULT_STORE = "MLFLOW_TRACKING_URI"

CHAMPION = "champion"
"""Alias of the version to use: `models:/NAME@champion`."""

RANKS = "ranks"
"""Tag of a version: the artifact of its run with the rank of every test query."""

Beats = Callable[[Path, Path], tuple[bool, str]]
"""(ranks of a new version, ranks of the champion) to whether it is better, and why, in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Registered:
    """A version of a registered model."""

    version: str
    is_champion: bool
    sentence: str
    """What happened, for the console."""


def register(
    client: MlflowClient, name: str, *, model_id: str, run_id: str, ranks: str, beats: Beats
) -> Registered:
    """Make a logged model a version of a registered one, and the champion if it beats that.

    `ranks` is the path of its test queries' ranks among the run's artifacts. The first version is
    the champion; another one becomes it only if `beats` says so. A model that has a version keeps
    it.
    """
    _make_registered_model(client, name)
    new = _version_of(client, name, run_id, model_id)
    if new is None:
        new = _new_version(client, name, run_id, model_id, tags={RANKS: ranks})
    this = f"version {new.version} of {name}"
    held = client.get_registered_model(name).aliases.get(CHAMPION)
    if held is not None and str(held) == str(new.version):
        sentence = f"{this} is its {CHAMPION}"
        return Registered(version=str(new.version), is_champion=True, sentence=sentence)
    if held is None:
        better, sentence = True, f"{this} is registered as its first {CHAMPION}"
    else:
        better, why = _compared(client, new, client.get_model_version(name, str(held)), beats)
        what = f"the new {CHAMPION} instead of" if better else f"registered; {CHAMPION} stays"
        sentence = f"{this} is {what} version {held}: {why}"
    if better:
        client.set_registered_model_alias(name, CHAMPION, str(new.version))
    return Registered(version=str(new.version), is_champion=better, sentence=sentence)


def _compared(
    client: MlflowClient, new: ModelVersion, champion: ModelVersion, beats: Beats
) -> tuple[bool, str]:
    with tempfile.TemporaryDirectory() as temporary:
        own = _downloaded_ranks(client, new, Path(temporary, "new"))
        try:
            others = _downloaded_ranks(client, champion, Path(temporary, "champion"))
        except KeyError:
            return False, "it was registered by hand, without ranks to compare with"
        except (MlflowException, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            return False, f"its ranks cannot be had from MLflow ({reason})"
        return beats(own, others)


def _downloaded_ranks(client: MlflowClient, version: ModelVersion, folder: Path) -> Path:
    """Raises KeyError if the version does not say where its ranks are."""
    folder.mkdir()
    return Path(client.download_artifacts(version.run_id, version.tags[RANKS], str(folder)))


def _make_registered_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _new_version(
    client: MlflowClient, name: str, run_id: str, model_id: str, tags: dict[str, str]
) -> ModelVersion:
    source = _source(model_id)
    with _default_store(client.tracking_uri):
        new = client.create_model_version(name, source, run_id, tags=tags, model_id=model_id)
    # a server does this itself; by it the pages of a model name its versions
    versions = json.loads(client.get_logged_model(model_id).tags.get(MLFLOW_MODEL_VERSIONS, "[]"))
    this = {"name": name, "version": int(new.version)}
    if this not in versions:
        of_model = {MLFLOW_MODEL_VERSIONS: json.dumps([*versions, this])}
        client.set_logged_model_tags(model_id, of_model)
    return new


@contextmanager
def _default_store(uri: str) -> Iterator[None]:
    """For a registry in a file, which looks logged models up in the environment's store."""
    before = os.environ.get(DEFAULT_STORE)
    os.environ[DEFAULT_STORE] = uri
    try:
        yield
    finally:
        if before is None:
            del os.environ[DEFAULT_STORE]
        else:
            os.environ[DEFAULT_STORE] = before


def _version_of(client: MlflowClient, name: str, run_id: str, model_id: str) -> ModelVersion | None:
    for version in client.search_model_versions(f"run_id = '{run_id}'"):
        if (version.name, version.source) == (name, _source(model_id)):
            return version
    return None


def _source(model_id: str) -> str:
    return f"models:/{model_id}"
