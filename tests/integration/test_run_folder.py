"""Files of a worker in the driver's folder: an actor beside it, this process for both."""

from pathlib import Path

import pytest
import ray

from xpool_platform.runtime import ray_session
from xpool_platform.tracking.journal import TRACKING, Journal, metric_history
from xpool_platform.train import run_folder as module
from xpool_platform.train.run_folder import PassedOn, RunFolder, run_folder

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def session():
    with ray_session():
        yield


def journal(folder: Path, who: str) -> Journal:
    return Journal(folder, who, uri="sqlite://", run_id="1")


def as_elsewhere(folder: RunFolder, path: Path) -> RunFolder:
    """The same folder for a worker that has this one in its place."""
    return RunFolder(path=str(path), word=folder.word, receiver=folder.receiver)


def test_what_is_written_elsewhere_arrives_in_pieces_and_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PIECE_BYTES", 1000)
    here, there = tmp_path / "here", tmp_path / "there"
    of_driver = journal(here, "driver")
    of_driver.write("metrics", steps={"1": {"loss": 3.0}})
    folder = run_folder(here)
    assert folder.is_here()
    elsewhere = as_elsewhere(folder, there)
    assert not elsewhere.is_here()

    journal(there, "rank0").write("metrics", steps={"5": {"loss": 9.0}})  # of an earlier run
    passed_on = PassedOn(elsewhere)
    assert metric_history(there) == {"loss": [(1, 3.0)]}
    of_worker = journal(there, "rank0")
    numbers = [path.name.split("-")[0] for path in sorted((there / TRACKING).glob("*.jsonl"))]
    assert numbers == ["0001", "0002"]
    for step in range(2, 200):
        of_worker.write("metrics", steps={str(step): {"loss": 3.0 / step}})
    (there / "figures").mkdir()
    (there / "figures" / "a.png").write_bytes(bytes(range(256)) * 100)
    passed_on.pass_on()
    assert [step for step, _ in metric_history(here)["loss"]] == list(range(1, 200))
    assert (here / "figures" / "a.png").read_bytes() == bytes(range(256)) * 100

    of_worker.write("metrics", steps={"200": {"loss": 0.0}})
    (there / "figures" / "a.png").write_bytes(b"shorter")
    (there / "empty").touch()
    of_driver.write("metrics", steps={"201": {"loss": 0.0}})  # the driver goes on with its own
    passed_on.close()
    assert [step for step, _ in metric_history(here)["loss"]] == list(range(1, 202))
    assert (here / "figures" / "a.png").read_bytes() == b"shorter"
    assert (here / "empty").read_bytes() == b""


def test_a_worker_on_the_drivers_disk_needs_nobody(tmp_path):
    folder = run_folder(tmp_path)
    seen = ray.remote(lambda given: given.is_here()).options(num_cpus=0)
    assert ray.get(seen.remote(folder))
    (tmp_path / TRACKING / module.WORD).write_text("an older run's")
    assert not ray.get(seen.remote(folder))
