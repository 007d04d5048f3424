"""What is logged while MLflow's server is away, and what comes of it."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import environment, mounted_disk
from mlflow.tracking import MlflowClient
from served_mlflow import served_mlflow

from xpool_platform.errors import UserError
from xpool_platform.tracking.journal import REFUSED, TRACKING, metric_history, num_unsent
from xpool_platform.tracking.journal_tracker import JournalTracker
from xpool_platform.tracking.mlflow_store import MlflowStore, awaited
from xpool_platform.tracking.tracker import DatasetRecord


def local_store(folder: Path) -> MlflowStore:
    return MlflowStore(f"sqlite:///{folder / 'mlflow.db'}", "tests", folder / "mlartifacts")


def run_dir_of(folder: Path, name: str = "run") -> Path:
    run_dir = folder / "runs" / name
    run_dir.mkdir(parents=True)
    return run_dir


def history(uri: str, run_id: str, key: str) -> list[tuple[int, float]]:
    """As the store has them: every entry, in the order in which they came."""
    entries = MlflowClient(uri).get_metric_history(run_id, key)
    return [(entry.step, entry.value) for entry in entries]


def test_a_run_holds_what_was_logged(tmp_path, monkeypatch):
    run_dir, said = run_dir_of(tmp_path), []
    tracker = local_store(tmp_path).start_run("run", run_dir, said.append)
    tracker.log_params({"optim.clip_lr": 1e-6, "long": "x" * 9000})
    tracker.set_tags({"experiment": "shapes"})
    tracker.log_inputs(
        [
            DatasetRecord(
                name="shapes",
                context="train",
                digest="abc",
                source={"root": "here"},
                profile={"num_videos": 3},
            )
        ]
    )
    tracker.log_metrics({1: {"loss": 2.0}, 2: {"loss": 1.0, "rate": 0.5}})
    path = run_dir / "config.json"
    path.write_text("{}")
    tracker.log_artifact(path)
    tracker.log_table({"metric": ["t2v/R1"], "value": [44.8]}, "results.json")
    worker = JournalTracker(run_dir, "rank0", uri=tracker.uri, run_id=tracker.run_id)
    worker.log_metrics({3: {"loss": 0.5}})
    worker.close()
    tracker.finish("FINISHED")
    assert not said

    client = MlflowClient(tracker.uri)
    run = client.get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"optim.clip_lr": "1e-06", "long": "x" * 6000}
    assert run.data.tags["experiment"] == "shapes"
    assert history(tracker.uri, tracker.run_id, "loss") == [(1, 2.0), (2, 1.0), (3, 0.5)]
    assert {each.path for each in client.list_artifacts(tracker.run_id)} == {
        "config.json",
        "results.json",
    }
    (read,) = run.inputs.dataset_inputs
    assert (read.dataset.digest, json.loads(read.dataset.profile)) == ("abc", {"num_videos": 3})
    assert [(tag.key, tag.value) for tag in read.tags] == [("mlflow.data.context", "train")]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracker.uri)  # where load_table looks for runs
    table = client.load_table(run.info.experiment_id, "results.json")
    assert table.to_dict("list") == {"metric": ["t2v/R1"], "value": [44.8]}
    assert metric_history(run_dir) == {"loss": [(1, 2.0), (2, 1.0), (3, 0.5)], "rate": [(2, 0.5)]}


def test_steps_that_are_done_again_are_logged_once(tmp_path):
    run_dir, store = run_dir_of(tmp_path), local_store(tmp_path)
    first = store.start_run("run", run_dir, print)
    first.log_metrics({step: {"loss": 1.0 / step} for step in range(1, 8)})
    first.finish("KILLED")
    again = store.resume_run(first.run_id, run_dir, print)
    again.log_metrics({step: {"loss": 1.0 / step} for step in range(5, 11)})
    again.finish("FINISHED")
    expected = [(step, 1.0 / step) for step in range(1, 11)]
    assert history(store.uri, first.run_id, "loss") == expected
    assert metric_history(run_dir)["loss"] == expected
    assert MlflowClient(store.uri).get_run(first.run_id).info.status == "FINISHED"


def test_what_a_killed_process_wrote_is_sent_by_the_next(tmp_path):
    run_dir, store = run_dir_of(tmp_path), local_store(tmp_path)
    tracker = store.start_run("run", run_dir, print)
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from xpool_platform.tracking.journal_tracker import JournalTracker\n"
        "tracker = JournalTracker(Path(sys.argv[1]), 'rank0', uri='u', run_id='r')\n"
        "for step in range(1, 6):\n"
        "    tracker.log_metrics({step: {'loss': float(step)}})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, run_dir], check=False)
    assert done.returncode == -signal.SIGKILL
    (journal,) = (run_dir / TRACKING).glob("*rank0*.jsonl")
    with journal.open("ab") as file:  # a line that it did not come to finish
        file.write(b'{"kind": "metrics", "time_ms": 1, "st')
    tracker.finish("FINISHED")
    expected = [(step, float(step)) for step in range(1, 6)]
    assert history(store.uri, tracker.run_id, "loss") == expected


def test_a_refused_entry_is_put_aside_and_the_rest_is_sent(tmp_path):
    run_dir, said = run_dir_of(tmp_path), []
    tracker = local_store(tmp_path).start_run("run", run_dir, said.append)
    tracker.log_params({"seed": 1})
    tracker.log_params({"seed": 2})
    tracker.log_params({"after": 3})
    tracker.log_artifact(run_dir / "gone.png")
    tracker.log_metrics({1: {"loss": 1.0}})
    tracker.finish("FINISHED")
    run = MlflowClient(tracker.uri).get_run(tracker.run_id)
    assert run.data.params == {"seed": "1", "after": "3"}
    assert run.data.metrics == {"loss": 1.0}
    assert run.info.status == "FINISHED"
    refused = [json.loads(line) for line in (run_dir / TRACKING / REFUSED).open()]
    assert [entry["kind"] for entry in refused] == ["params", "artifact"]
    assert refused[0]["params"] == {"seed": "2"}
    assert "gone.png is not there any more" in refused[1]["reason"]
    assert len(said) == 1
    assert "refused 2 entries" in said[0]


def test_a_run_that_is_not_there_is_named(tmp_path):
    store, run_dir = local_store(tmp_path), run_dir_of(tmp_path)
    with pytest.raises(UserError, match=f"has no run {'0' * 32}"):
        store.resume_run("0" * 32, run_dir, print)


@pytest.mark.slow
def test_metrics_outlive_an_absence_of_the_server(tmp_path):
    run_dir, said, waits = run_dir_of(tmp_path), [], []
    with served_mlflow(tmp_path / "served") as server:
        store = MlflowStore(server.uri, "tests", tmp_path)
        tracker = store.start_run("run", run_dir, said.append)

        def log(steps: range) -> None:
            for step in steps:
                started = time.monotonic()
                tracker.log_metrics({step: {"loss": 1.0 / step, "rate": float(step)}})
                waits.append(time.monotonic() - started)
                time.sleep(0.02)

        log(range(1, 50))
        server.kill()
        log(range(50, 200))
        figure = run_dir / "figure.png"
        figure.write_bytes(b"a figure")
        tracker.log_artifact(figure, "figures")
        assert num_unsent(run_dir / TRACKING) >= 150
        server.start()
        server.signal(signal.SIGSTOP)  # it takes connections and says nothing
        log(range(200, 300))
        server.signal(signal.SIGCONT)
        log(range(300, 350))
        tracker.finish("FINISHED")
        assert max(waits) < 1
        assert len(said) == 2
        assert "does not take what is logged" in said[0]
        assert "answers again" in said[1]
        for key, value in (("loss", lambda step: 1.0 / step), ("rate", float)):
            expected = [(step, value(step)) for step in range(1, 350)]
            assert history(server.uri, tracker.run_id, key) == expected
        client = MlflowClient(server.uri)
        assert [each.path for each in client.list_artifacts(tracker.run_id, "figures")] == [
            "figures/figure.png"
        ]


@pytest.mark.slow
def test_a_run_whose_server_never_comes_back_ends_and_is_sent_later(tmp_path):
    run_dir, said = run_dir_of(tmp_path, "alone"), []
    with served_mlflow(tmp_path / "served") as server:
        store = MlflowStore(server.uri, "tests", tmp_path)
        tracker = store.start_run("alone", run_dir, said.append)
        tracker.log_metrics({1: {"loss": 1.0}})
        server.kill()
        tracker.log_metrics({2: {"loss": 0.5}})
        started = time.monotonic()
        tracker.finish("FINISHED")
        assert time.monotonic() - started < 60
        assert "python jobs/sync.py alone sends them" in said[-1]

        def sync() -> subprocess.CompletedProcess:
            command = [sys.executable, "jobs/sync.py", "--output-dir", tmp_path]
            return subprocess.run(
                command,
                cwd=Path(__file__).parents[2],
                env=environment(),
                capture_output=True,
                text=True,
                check=False,
            )

        away = sync()
        assert away.returncode == 1
        assert "alone: " in away.stdout
        assert "does not take what is logged" in away.stdout
        left = num_unsent(run_dir / TRACKING)
        assert left >= 2
        server.start()
        assert MlflowClient(server.uri).get_run(tracker.run_id).info.status == "RUNNING"
        done = sync()
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"alone: {left} entries sent\n"
        run = MlflowClient(server.uri).get_run(tracker.run_id)
        assert run.info.status == "FINISHED"
        assert history(server.uri, tracker.run_id, "loss") == [(1, 1.0), (2, 0.5)]
        assert sync().stdout.strip() == "everything was sent already"


def test_a_trial_waits_for_a_server_that_is_away(tmp_path):
    said = []
    with served_mlflow(tmp_path / "served") as server:
        server.kill()
        threading.Timer(1.0, server.start).start()
        store = awaited(lambda: MlflowStore(server.uri, "tests", tmp_path), said.append)
        assert store.experiment == "tests"
        assert len(said) == 1
        assert "does not answer" in said[0]
    with pytest.raises(UserError, match="does not answer"):
        awaited(lambda: MlflowStore(server.uri, "tests", tmp_path), said.append, within_s=0)


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    yield from mounted_disk(tmp_path, 1)


def test_a_full_disk_leaves_whole_entries(tmp_path, disk):
    logged: list[str] = []

    def log_until_it_is_full() -> None:
        while True:
            tracker.set_tags({f"tag {len(logged)}": "x" * 5000})
            logged.append(f"tag {len(logged)}")

    tracker = local_store(tmp_path).start_run("run", run_dir_of(disk), print)
    filler = disk / "filler"
    filler.write_bytes(bytes(700_000))
    with pytest.raises(OSError, match="No space left"):
        log_until_it_is_full()
    filler.unlink()
    tracker.set_tags({"last": "x"})
    tracker.finish("FAILED")
    tags = MlflowClient(tracker.uri).get_run(tracker.run_id).data.tags
    assert len(logged) > 20
    assert {*logged, "last"} <= tags.keys()
    assert f"tag {len(logged)}" not in tags
