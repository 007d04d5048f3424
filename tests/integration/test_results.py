"""What the default experiments reach, as the README says it."""

import pytest
from conftest import ROOT, train
from test_train_job import runs_of

pytestmark = [pytest.mark.ray, pytest.mark.slow]

CLIPS = ROOT.parent / "shared" / "clips"


def test_attention_beats_the_mean_on_shapes(tmp_path):
    for pooling in ("xpool", "mean"):
        done = train(
            *("shapes", "--model.pooling", pooling, "--run-name", pooling),
            *("--output-dir", str(tmp_path)),
            timeout_s=900,
        )
        assert done.status == 0, done.err
    runs = runs_of(tmp_path)
    assert runs.keys() == {"xpool", "mean"}
    metrics = runs["xpool"].data.metrics
    assert metrics["test/t2v/R10"] >= 95
    assert metrics["test/t2v/R1"] >= 35
    assert metrics["test/t2v/R1"] >= 5 * runs["mean"].data.metrics["test/t2v/R1"]
    assert metrics["test/t2v/R1_low"] > runs["mean"].data.metrics["test/t2v/R1_high"]


@pytest.mark.skipif(
    not CLIPS.is_dir(), reason="the folder of real clips is not beside this checkout"
)
@pytest.mark.long
def test_the_captions_of_real_clips_are_learnt(tmp_path):
    done = train("clips", "--data.root", str(CLIPS), "--output-dir", str(tmp_path), timeout_s=600)
    assert done.status == 0, done.err
    assert "decoding: 15/15" in done.out
    assert "left out" not in done.out
    assert "train.batch_size 32 shrinks to 15" in done.out
    (run,) = runs_of(tmp_path, "clips").values()
    assert run.data.metrics["train/t2v/R1"] >= 90
