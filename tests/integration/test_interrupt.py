"""Ctrl-C and SIGTERM at any moment: the run is KILLED and no process stays behind."""

import signal
import time
import uuid

import pytest
from conftest import SMALL_SHAPES, processes_of, start_job
from mlflow.tracking import MlflowClient

pytestmark = [pytest.mark.ray, pytest.mark.slow]

MAX_SECONDS = 20


def read_until(process, words: str) -> None:
    for line in process.stdout:
        if words in line:
            return
    raise AssertionError(f"the job ended before {words!r}: {process.stderr.read()}")


@pytest.mark.parametrize(
    ("words", "number", "options"),
    [
        ("corpus: 0/", signal.SIGINT, ()),
        ("decoding: 0/", signal.SIGINT, SMALL_SHAPES),
        ("starting the workers", signal.SIGTERM, SMALL_SHAPES),
        ("pairs/s", signal.SIGINT, (*SMALL_SHAPES, "--train.num-steps", "100000")),
    ],
)
def test_an_interrupted_job_ends_in_seconds(tmp_path, words, number, options):
    marker = uuid.uuid4().hex
    process = start_job(*options, "--output-dir", str(tmp_path), TEST_MARKER=marker)
    read_until(process, words)
    started = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    seconds = time.monotonic() - started
    assert process.returncode == 130
    assert err.strip() == "interrupted"
    assert seconds < MAX_SECONDS
    deadline = time.monotonic() + MAX_SECONDS
    while processes_of(marker) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes_of(marker) == []
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("shapes")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "KILLED"


@pytest.mark.parametrize("delay_s", [0.0, 2.0, 5.0])
def test_an_interrupt_before_there_is_a_run(tmp_path, delay_s):
    marker = uuid.uuid4().hex
    process = start_job("--output-dir", str(tmp_path / "out"), TEST_MARKER=marker)
    while not (tmp_path / "out").exists():  # the checks have begun, Ray and MLflow start next
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(delay_s)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Traceback" not in err
    deadline = time.monotonic() + MAX_SECONDS
    while processes_of(marker) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes_of(marker) == []
