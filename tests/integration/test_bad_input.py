"""A user's mistake: one sentence that names the thing and the way out, before any training."""

import os
import socket
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import SMALL_SHAPES, mounted_disk, train
from mlflow.tracking import MlflowClient

from videos import write_video

pytestmark = pytest.mark.ray


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four good videos with captions."""
    root = tmp_path / "videos"
    root.mkdir()
    for i in range(4):
        write_video(root / f"{i}.mp4", 14)
    (root / "captions.csv").write_text(
        "video,caption\n" + "".join(f"{i}.mp4,caption number {i}\n" for i in range(4))
    )
    return root


def refused(*arguments: str, **options) -> str:
    """What a job that is refused says, all of it."""
    done = train(*arguments, **options)
    assert done.status == 1, done.out + done.err
    assert "Traceback" not in done.err
    assert "training:" not in done.out
    assert done.err.startswith("error: ")
    return done.err


def test_unknown_experiment_option_and_value(tmp_path):
    assert "did you mean 'shapes'?" in refused("shaps")
    assert "did you mean --train.num-steps?" in refused("--train.num-step", "5")
    assert "optim.clip_lr must be at least 0, not -1.0" in refused("--optim.clip-lr", "-1")
    out = str(tmp_path / "out")
    assert "nearest: ViT-B-32" in refused("--model.clip-name", "ViT-B32", "--output-dir", out)
    assert not (tmp_path / "out").exists()


def test_folders_that_do_not_fit(tmp_path, folder):
    out = ("--output-dir", str(tmp_path / "out"))
    assert "data.root is empty" in refused("clips", *out)
    assert "is not a folder" in refused("clips", "--data.root", str(tmp_path / "no"), *out)
    (tmp_path / "empty").mkdir()
    message = refused("clips", "--data.root", str(tmp_path / "empty"), *out)
    assert "has no captions.csv; write one" in message
    (folder / "1.mp4").unlink()
    (folder / "3.mp4").write_bytes(b"")
    message = refused("clips", "--data.root", str(folder), *out)
    assert "line 3: 1.mp4 is not there" in message
    assert "line 5: 3.mp4 is empty, it has 0 bytes" in message


def test_undecodable_videos_are_named_with_their_reasons(tmp_path, folder):
    (folder / "1.mp4").write_text("<html>not found</html>")
    (folder / "3.mp4").write_bytes(b"\0")
    message = refused("clips", "--data.root", str(folder), "--output-dir", str(tmp_path / "out"))
    assert "2 of 4 videos cannot be decoded" in message
    assert "1.mp4: not-a-video, it is a text" in message
    assert "3.mp4: damaged" in message
    assert "--data.max-bad-fraction" in message
    client = MlflowClient(f"sqlite:///{tmp_path / 'out' / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("clips").experiment_id])
    assert run.info.status == "FAILED"
    rows = pq.read_table(client.download_artifacts(run.info.run_id, "errors.parquet")).to_pylist()
    assert [(row["video_id"], row["split"], row["kind"]) for row in rows] == [
        ("1.mp4", "train", "not-a-video"),
        ("3.mp4", "train", "damaged"),
    ]
    assert all(row["reason"] for row in rows)


@pytest.mark.slow
def test_the_rest_goes_on_where_that_is_allowed(tmp_path, folder):
    (folder / "1.mp4").write_text("<html>not found</html>")
    done = train(
        *("clips", "--data.root", str(folder), "--output-dir", str(tmp_path / "out")),
        *("--data.max-bad-fraction", "0.3", "--train.num-steps", "2"),
    )
    assert done.status == 0, done.err
    assert "left out 1 of 4 videos:\n  1.mp4: not-a-video" in done.out
    assert "train.batch_size 32 shrinks to 3" in done.out
    assert "train: 3 captions, 3 videos" in done.out


def test_a_split_that_is_not_there(tmp_path, folder):
    message = refused(
        *("clips", "--data.root", str(folder), "--output-dir", str(tmp_path / "out")),
        *("--train.select-on", "val"),
    )
    assert "train.select_on needs videos of the split 'val'" in message
    assert "--data.val-fraction 0.1" in message


def test_more_than_the_cluster_has(tmp_path):
    cpus = os.cpu_count() or 1
    message = refused(
        *("--output-dir", str(tmp_path), "--train.num-workers", "32", "--train.batch-size", "64"),
        *("--train.cpus-per-worker", str(cpus)),
    )
    assert f"need {32 * cpus + 1} CPUs, and the cluster has {cpus}" in message
    message = refused("--output-dir", str(tmp_path), "--train.use-gpu", "True")
    assert (
        "train.num_workers 2 x train.gpus_per_worker 1 need 2 GPUs, and the cluster has" in message
    )


def test_an_mlflow_server_that_does_not_answer(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    message = refused(
        *("--output-dir", str(tmp_path), "--tracking.uri", f"http://127.0.0.1:{port}"),
        *SMALL_SHAPES,
        timeout_s=120,
    )
    assert f"tracking.uri 'http://127.0.0.1:{port}' does not answer" in message
    assert "leave --tracking.uri out" in message


def test_an_output_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    message = refused("--output-dir", str(tmp_path / "file" / "out"))
    assert "output_dir" in message
    assert "cannot be written to" in message


@pytest.fixture
def small_disk(tmp_path):
    """A disk of a few MiB."""
    yield from mounted_disk(tmp_path, 24)


def test_no_space_to_write(small_disk):
    assert "MiB of space left" in refused("--output-dir", str(small_disk))
