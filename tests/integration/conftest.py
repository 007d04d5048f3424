"""Jobs run as a user runs them: a process, its output, and what it leaves behind."""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from mlflow.tracking import MlflowClient

ROOT = Path(__file__).parents[2]

SMALL_SHAPES = (
    *("--data.shapes.num-train", "48", "--data.shapes.num-val", "8"),
    *("--data.shapes.num-test", "12", "--train.batch-size", "8", "--train.num-steps", "12"),
    *("--train.evals-per-run", "2", "--eval.num-resamples", "50"),
)
"""Options that make the default experiment take seconds once Ray runs."""


@dataclass
class Done:
    """A job that has ended."""

    status: int
    out: str
    err: str
    seconds: float


def environment(**changes: str) -> dict[str, str]:
    """This process's, without what would lead a job to somebody's cluster."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_", "XPOOL_"))}
    return {**kept, "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}", **changes}


def make_environment(folder: Path) -> Path:
    """The Python of an environment with the dependencies and without this project."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    packages = folder / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    # a folder named in a .pth file is searched, but the .pth files in it are not followed
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin" / "python"


def start_job(
    *arguments: str,
    root: Path = ROOT,
    python: Path = Path(sys.executable),
    script: str = "jobs/train.py",
    within: tuple[str, ...] = (),
    **changes: str,
):
    """A job as a process, started by the command `within` where there is one."""
    return subprocess.Popen(
        [*within, python, script, *arguments],
        cwd=root,
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell that runs the tests in the background leaves SIGINT ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )


def finish(process: subprocess.Popen, timeout_s: float = 300) -> Done:
    """Wait for a job."""
    started = time.monotonic()
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        raise
    return Done(process.returncode, out, err, time.monotonic() - started)


def train(*arguments: str, timeout_s: float = 300, **options) -> Done:
    """Run jobs/train.py to its end."""
    return finish(start_job(*arguments, **options), timeout_s)


def evaluate(*arguments: str, timeout_s: float = 300, **options) -> Done:
    """Run jobs/evaluate.py to its end."""
    return finish(start_job(*arguments, script="jobs/evaluate.py", **options), timeout_s)


def processes_of(marker: str) -> list[psutil.Process]:
    """Processes whose environment names the marker: all that a job has started."""
    found = []
    for process in psutil.process_iter():
        try:
            if marker in process.environ().values():
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return [p for p in found if p.pid != os.getpid()]


def mounted_disk(parent: Path, mebibytes: int) -> Iterator[Path]:
    """A disk of this size, for a fixture to yield from."""
    folder = parent / "small disk"
    folder.mkdir()
    mount = shutil.which("mount") or "mount"
    command = [mount, "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def copy_checkout(target: Path) -> Path:
    """The tracked files, and those that are about to be, in another place."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file() and not name.startswith("tests/data"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


@pytest.fixture(scope="module", autouse=True)
def _environment_given_back() -> Iterator[None]:
    """What a module sets is not the next one's.

    A Ray that starts in this process turns its token on for all that this process starts later.
    """
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> Path:
    """MLflow's tables, which take seconds to make."""
    path = tmp_path_factory.mktemp("store") / "store.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def client(empty_store, tmp_path) -> MlflowClient:
    """MLflow with a store of the test's own, in a file."""
    shutil.copyfile(empty_store, tmp_path / "store.db")
    return MlflowClient(f"sqlite:///{tmp_path}/store.db")
