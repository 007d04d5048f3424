"""One job at a time under a name, and after its death another."""

import subprocess
import sys
from pathlib import Path

import pytest

from xpool_platform.errors import UserError
from xpool_platform.run_lease import new_run_lease, run_lease

HOLD = """
import sys, time
from pathlib import Path
from xpool_platform.run_lease import new_run_lease
with new_run_lease(Path(sys.argv[1])):
    for name in sys.argv[2:]:
        (Path(sys.argv[1]) / name).touch()
    print("held", flush=True)
    time.sleep(600)
"""


def holder(run_dir: Path, *records: str) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, run_dir, *records], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_job_is_refused_until_the_first_is_dead(tmp_path):
    run_dir = tmp_path / "run"
    process = holder(run_dir, "config.json")
    for lease in (run_lease, new_run_lease):
        refused = pytest.raises(UserError, match=rf"running already \(process {process.pid} on ")
        with refused, lease(run_dir):
            pass
    process.kill()
    process.wait()
    with run_lease(run_dir):
        pass
    with pytest.raises(UserError, match="is used already"), new_run_lease(run_dir):
        pass
    assert (run_dir / "config.json").exists()


def test_a_job_that_was_killed_before_it_recorded_anything_leaves_the_name_free(tmp_path):
    run_dir = tmp_path / "run"
    process = holder(run_dir)
    process.kill()
    process.wait()
    with new_run_lease(run_dir):
        (run_dir / "config.json").touch()
    assert run_dir.exists()


def test_a_job_that_ends_before_it_recorded_anything_leaves_nothing(tmp_path):
    with new_run_lease(tmp_path / "run"):
        pass
    assert not list(tmp_path.iterdir())
