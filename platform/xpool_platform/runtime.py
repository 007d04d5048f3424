"""Ray from the driver's side: start or join a cluster, quietly, with the packages on its path."""

import logging
import os
import shlex
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import ray
from ray.data import DataContext

import xpool
import xpool_platform
from xpool_platform.ray_token import ensure_private_token

PACKAGES = tuple(Path(package.__file__ or "").parent for package in (xpool, xpool_platform))

WORKER_ENVIRONMENT = {
    # Ray Train polls its workers; at the default, every report waits for 2 s
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # a group of workers that a dead node was meant for is given up after this
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "15",
    "PYTHONWARNINGS": "ignore",
    # large tensors stay with the process instead of going back to the kernel at every step
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
}
"""Set for every process of a job."""

LOCAL_ENVIRONMENT = {
    # nobody takes this machine away, and no dashboard shows these metrics
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_usage_stats_enabled": "0",
}
"""Set besides where Ray is started for this job alone."""


@contextmanager
def interrupts_held() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C and SIGTERM wait for the end of the block; a second one does not wait.

    Gives what tells whether there was one. Raised in the middle of Ray's start, an interrupt is
    lost, or leaves processes behind, or a lock of `logging` for which the thread that opens MLflow
    would wait for ever.
    """
    interrupted = False

    def note(signal_number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            _interrupt(signal_number, frame)
        interrupted = True

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    heard = {number: one for number, one in handlers.items() if one is not signal.SIG_IGN}
    for number in heard:
        signal.signal(number, note)
    try:
        yield lambda: interrupted
    finally:
        for number, handler in heard.items():
            signal.signal(number, handler)
    if interrupted:
        raise KeyboardInterrupt


@contextmanager
def ray_session() -> Iterator[None]:
    """Ray for the time of a job; within another session, that one.

    Joins the cluster that RAY_ADDRESS names (`ray job submit` sets it), handing it the packages;
    otherwise starts Ray on this machine and stops it at the end.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.update(WORKER_ENVIRONMENT)
    # the hook of `uv run` would make a new environment for every worker
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"  # the default, without its warning
    warnings.simplefilter("ignore")
    try:
        with interrupts_held():
            _start_ray()
        signal.signal(signal.SIGTERM, _interrupt)  # Ray's own would exit without clean-up
        yield
    finally:
        ray.shutdown()


def _start_ray() -> None:
    address = os.environ.get("RAY_ADDRESS")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address:
        handed = {
            "py_modules": [str(package) for package in PACKAGES],
            "env_vars": WORKER_ENVIRONMENT,
        }
        ray.init(address=address, runtime_env=handed, **quiet)
    else:
        os.environ.update(LOCAL_ENVIRONMENT)
        ensure_private_token()
        roots = [str(package.parent) for package in PACKAGES]
        inherited = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([*roots, *([inherited] if inherited else [])])
        # Ray runs some workers through a shell and does not quote a path with a space in it
        quoted = shlex.quote(sys.executable)
        environment = {"py_executable": quoted} if quoted != sys.executable else None
        ray.init(address="local", include_dashboard=False, runtime_env=environment, **quiet)
    for name in ("ray", "ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    DataContext.get_current().enable_progress_bars = False
    DataContext.get_current().print_on_execution_start = False


def _interrupt(_signal_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
