"""A benchmark's experiment on a few videos in its published format, from training to evaluation."""

import json
from collections import deque
from pathlib import Path

import pytest
from conftest import evaluate, train
from test_train_job import history, runs_of

from videos import write_video

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ON_THIS_MACHINE = (
    *("--model.clip-name", "tiny", "--model.clip-pretrained", "", "--data.short-side", "48"),
    *("--train.use-gpu", "False", "--train.batch-size", "4", "--train.num-epochs", "2"),
    *("--eval.num-resamples", "50", "--optim.clip-lr", "1e-3"),
)


@pytest.fixture
def msvd(tmp_path) -> Path:
    root = tmp_path / "MSVD"
    (root / "YouTubeClips").mkdir(parents=True)
    ids = {"train": [f"t{i}_0_1" for i in range(6)], "val": ["v0_0_1", "v1_0_1"]}
    ids["test"] = ["-x_0_1", "y_0_1", "z_0_1"]
    captions = {}
    for split, videos in ids.items():
        (root / f"{split}_list.txt").write_text("\n".join(videos))
        for number, video in enumerate(videos):
            write_video(root / "YouTubeClips" / f"{video}.mp4", 14)
            captions[video] = [f"caption {i} of {split} {number}" for i in range(number + 1)]
    (root / "captions_msvd.json").write_text(json.dumps(captions))
    return root


@pytest.mark.long
def test_msvd_from_its_own_files(msvd, tmp_path):
    to = ("--data.root", str(msvd), "--output-dir", str(tmp_path / "out"))
    done = train("msvd_val", *ON_THIS_MACHINE, *to, "--run-name", "small")
    assert done.status == 0, done.err
    assert "test: 6 captions, 3 videos" in done.out
    assert "decoding: 11/11" in done.out
    run = runs_of(tmp_path / "out", "msvd_val")["small"]
    assert run.data.params["data.num_captions_train"] == "21"
    done = evaluate("msvd", *ON_THIS_MACHINE, *to, "--checkpoint", "small", "--run-name", "again")
    assert done.status == 0, done.err
    again = json.loads((tmp_path / "out" / "evaluations" / "again" / "metrics.json").read_text())
    assert again["metrics"]["t2v/R1"] == run.data.metrics["test/t2v/R1"]
    assert again["num_bank_captions"] == 21

    for path in (msvd / "YouTubeClips").glob("t?_0_1.mp4"):
        path.unlink()
    arguments = (*ON_THIS_MACHINE, *to, "--checkpoint", "small", "--run-name", "test videos alone")
    done = evaluate("msvd", *arguments)
    assert done.status == 0, done.err
    (msvd / "YouTubeClips" / "y_0_1.mp4").unlink()
    done = train("msvd", *ON_THIS_MACHINE, *to)
    assert done.status == 1
    assert "y_0_1 (test) has no video file" in done.err
    assert "Traceback" not in done.err


@pytest.mark.long
def test_the_mean_of_evaluations_decides(msvd, tmp_path):
    done = train(
        *("msvd", *ON_THIS_MACHINE, "--data.root", str(msvd)),
        *("--output-dir", str(tmp_path / "out"), "--run-name", "mean of three"),
        *("--train.evals-per-run", "8", "--train.select-mean-of", "3"),
    )
    assert done.status == 0, done.err
    assert "best of the checkpoints by t2v R@1 on test" in done.out
    run = runs_of(tmp_path / "out", "msvd")["mean of three"]
    recalls = dict(history(tmp_path / "out", run, "progress/test/t2v/R1"))
    ((_, reported),) = history(tmp_path / "out", run, "test/t2v/R1")
    newest = deque(maxlen=3)
    means = {}
    for step in sorted(recalls):
        newest.append(recalls[step])
        means[step] = sum(newest) / len(newest)
    assert len(means) == 8
    best = max(means, key=lambda step: (means[step], -step))
    assert run.data.metrics["best/step"] == best
    assert run.data.metrics["best/test/t2v/R1"] == pytest.approx(means[best])
    assert reported == recalls[best]
