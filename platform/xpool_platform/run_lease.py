"""Who runs a run: one job at a time, and after its death another.

The lease is a lock of the operating system on a file in the run's folder, so that it ends with the
process that holds it, whatever ended that. It holds on local disks and on NFS from version 4 on.
"""

import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from xpool_platform.errors import UserError
from xpool_platform.interrupted_run import HOLDER, LEASE, is_unused


@contextmanager
def new_run_lease(run_dir: Path) -> Iterator[None]:
    """Make a run's folder and hold the run; an end before anything was recorded removes it.

    Raises UserError if something is recorded there, or another job has just taken the name.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    with run_lease(run_dir):
        try:
            if not is_unused(run_dir):
                raise UserError(
                    f"run_name {run_dir.name!r} is used already, in {run_dir}; choose another "
                    "--run-name or leave it out"
                )
            yield
        finally:
            if is_unused(run_dir):
                shutil.rmtree(run_dir)


@contextmanager
def run_lease(run_dir: Path, *, within_s: float = 0.0) -> Iterator[None]:
    """Hold the run in this folder, which is there.

    Raises UserError if another job holds it, and still does after within_s.
    """
    lock = FileLock(run_dir / LEASE)
    try:
        lock.acquire(timeout=within_s)
    except Timeout:
        raise UserError(
            f"run_name {run_dir.name!r} is running already ({_holder(run_dir)}); wait for its end, "
            "or choose another --run-name"
        ) from None
    try:
        said = {"host": platform.node(), "pid": os.getpid()}
        (run_dir / HOLDER).write_text(json.dumps(said), encoding="utf-8")
        yield
    finally:
        lock.release()


def _holder(run_dir: Path) -> str:
    try:
        said = json.loads((run_dir / HOLDER).read_text(encoding="utf-8"))
        return f"process {said['pid']} on {said['host']}"
    except (OSError, ValueError, KeyError):  # it has only just begun
        return "another job"
