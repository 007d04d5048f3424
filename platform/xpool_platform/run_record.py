"""The start and the end of a run's record, the same for every job."""

import getpass
import importlib
import json
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import ray

from xpool_platform.config import ExperimentConfig
from xpool_platform.config_io import flatten, write_config
from xpool_platform.errors import UserError, raised_as_user_error
from xpool_platform.interrupted_run import RECORD, is_unused
from xpool_platform.tracking.tracker import RunStatus, Tracker

if TYPE_CHECKING:
    from xpool_platform.tracking.mlflow_store import MlflowStore


def new_run_dir(config: ExperimentConfig, parent: Path, kind: str = "") -> Path:
    """The folder of a new run, not made yet; its name is the run's.

    Raises UserError if the name is used.
    """
    parts = (config.name, config.model.pooling, kind, f"{datetime.now():%Y%m%d-%H%M%S}")
    name = config.run_name or "-".join(filter(None, parts))
    if not is_unused(parent / name):
        raise UserError(
            f"run_name {name!r} is used already, in {parent / name}; choose another --run-name, "
            "leave it out, or go on with an interrupted training by --resume"
        )
    return parent / name


def open_store(
    config: ExperimentConfig, output_dir: Path, *, then_import: str, may_be_away: bool = False
) -> "Future[MlflowStore]":
    """MLflow's store, opened beside Ray's start: both take seconds.

    The same thread imports the module that is needed next, since torch takes seconds too. A server
    that may be away is only asked for runs that are there already.
    """

    def opened() -> "MlflowStore":
        from xpool_platform.tracking.mlflow_store import MlflowStore  # noqa: PLC0415

        store = MlflowStore(
            config.tracking.uri or f"sqlite:///{output_dir / 'mlflow.db'}",
            config.tracking.experiment or config.name,
            output_dir / "mlartifacts",
            may_be_away=may_be_away,
        )
        importlib.import_module(then_import)
        return store

    pool = ThreadPoolExecutor(1)
    opening = pool.submit(opened)
    pool.shutdown(wait=False)
    return opening


@contextmanager
def run_ended(tracker: Tracker, *, was_ended: bool = False) -> Iterator[None]:
    """End the run as FINISHED, FAILED or KILLED; raise the user's part of an error as UserError.

    A run that had ended before and is only added to keeps its end.
    """
    status: RunStatus = "FAILED"
    try:
        with raised_as_user_error():
            yield
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        with raised_as_user_error():
            if was_ended:
                tracker.close()
            else:
                tracker.finish(status)


def record_start(
    tracker: Tracker,
    config: ExperimentConfig,
    run_dir: Path,
    *,
    varied: Collection[str] = (),
) -> None:
    """What is run, and where. Parameters are all fields but the name, and those that are varied."""
    path = run_dir / "config.json"
    write_config(config, path)
    where = {"tracking_uri": tracker.uri, "run_id": tracker.run_id}
    (run_dir / RECORD).write_text(json.dumps(where), encoding="utf-8")
    flat = flatten(config)
    tracker.log_params({key: flat[key] for key in flat if key not in ("run_name", *varied)})
    tracker.log_artifact(path)
    cluster = ray.cluster_resources()
    tags = {
        "experiment": config.name,
        "pooling": config.model.pooling,
        "command": f"python {shlex.join(sys.argv)}",
        "ray.version": ray.__version__,
        "cluster.nodes": str(sum(node["Alive"] for node in ray.nodes())),
        "cluster.cpus": f"{cluster.get('CPU', 0):g}",
        "cluster.gpus": f"{cluster.get('GPU', 0):g}",
        "run_dir": str(run_dir),
        "host": platform.node(),
        "python.version": platform.python_version(),
        "torch.version": version("torch"),
        "mlflow.user": _user(),
        "mlflow.source.type": "JOB",
        "mlflow.source.name": sys.argv[0],
    }
    git = git_tags()
    if "git.commit" in git:
        tags["mlflow.source.git.commit"] = git["git.commit"]
    tracker.set_tags(tags | git)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container whose user has no name
        return "unknown"


@cache
def git_tags() -> dict[str, str]:
    """`git.commit` and `git.clean` of the checkout that runs; empty where there is no git."""
    git = shutil.which("git")
    if git is None:
        return {}

    def ask(*arguments: str) -> str | None:
        folder = Path(__file__).parent
        done = subprocess.run(
            [git, *arguments], cwd=folder, capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    if commit is None:
        return {}
    return {"git.commit": commit, "git.clean": str(not ask("status", "--porcelain")).lower()}
