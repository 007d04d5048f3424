"""jobs/evaluate.py on the checkpoints of a training."""

import contextlib
import json
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from conftest import SMALL_SHAPES, evaluate, finish, processes_of, start_job, train
from loaded_elsewhere import loaded_elsewhere
from test_train_job import runs_of, store_of

from videos import write_video
from xpool.bootstrap import paired_bootstrap
from xpool.metrics import RetrievalRanks, metrics_of_ranks
from xpool_platform.checkpoint_files import find_checkpoint
from xpool_platform.data.folder_manifest import folder_manifest
from xpool_platform.tracking.figures.notes import NOTES

pytestmark = pytest.mark.ray


def evaluated(output: Path, name: str, *arguments: str) -> tuple[dict, str]:
    """The metrics.json of an evaluation that ends well, and what it printed."""
    done = evaluate(*arguments, "--output-dir", str(output), "--run-name", name)
    assert done.status == 0, done.err
    assert done.err == ""
    summary = json.loads((output / "evaluations" / name / "metrics.json").read_text())
    return summary, done.out


def refused(*arguments: str) -> str:
    done = evaluate(*arguments)
    assert done.status == 1, done.out + done.err
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err
    return done.err


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """A run of X-Pool, and an evaluation of its towers under mean pooling."""
    folder = tmp_path_factory.mktemp("evaluated runs")
    done = train(*SMALL_SHAPES, "--output-dir", str(folder), "--run-name", "xpool")
    assert done.status == 0, done.err
    summary, out = evaluated(
        *(folder, "averaged", "--checkpoint", str(folder / "runs" / "xpool")),
        *("--model.pooling", "mean", "--num-bank-captions", "0"),
        *("--eval.num-figures", "0", "--figures"),
    )
    assert summary["pooling"] == "mean"
    assert "QB-Norm" not in out
    return folder


def ranks_in(path: Path) -> RetrievalRanks:
    table = pq.read_table(path).to_pylist()
    texts = [row for row in table if row["direction"] == "t2v"]
    videos = [row for row in table if row["direction"] == "v2t"]
    column = {row["video_id"]: i for i, row in enumerate(videos)}
    return RetrievalRanks(
        t2v=np.array([row["rank"] for row in texts]),
        v2t=np.array([row["rank"] for row in videos]),
        video_of_text=np.array([column[row["video_id"]] for row in texts]),
    )


@pytest.fixture(scope="module")
def again(output) -> tuple[dict, str]:
    """What the best checkpoint of the run gives when it is evaluated once more."""
    options = ("--save-scores", "--against", "averaged")
    return evaluated(output, "again", "--checkpoint", "xpool", *options)


def test_a_run_by_its_name_gives_the_figures_of_its_training(output, again):
    summary, out = again
    training = json.loads((output / "runs" / "xpool" / "metrics.json").read_text())
    for key in ("split", "num_videos", "num_captions", "metrics", "intervals", "chance"):
        assert summary[key] == training[key], key
    assert summary["selected_on"] == training["selected_on"] == "val"
    for words in ("decoding: 0/0", "QB-Norm", "dual softmax", "p = ", "checkpoint chosen on val"):
        assert words in out

    folder = output / "evaluations" / "again"
    table = pq.read_table(folder / "ranks.parquet")
    ranks = ranks_in(folder / "ranks.parquet")
    assert metrics_of_ranks(ranks) == summary["metrics"]
    assert table.num_rows == 36 + 12
    assert table["caption"].null_count == 12
    assert table["rank_qb_norm"].null_count == 12
    scores = np.load(folder / "scores.npy")
    assert scores.shape == (36, 12)
    truth = scores[np.arange(36), ranks.video_of_text]
    np.testing.assert_array_equal(table["score"].to_numpy()[:36], truth)
    np.testing.assert_array_equal(ranks.t2v, (scores >= truth[:, None]).sum(axis=1))

    expected = paired_bootstrap(
        ranks, ranks_in(output / "evaluations" / "averaged" / "ranks.parquet")
    )
    assert summary["differences"]["t2v/R5"]["p_value"] == expected["t2v/R5"].p_value
    assert summary["differences"]["v2t/MnR"]["difference"] == expected["v2t/MnR"].difference

    names = ("averaged", "again", "--name", "two")
    job = start_job(*names, "--output-dir", str(output), script="jobs/compare.py")
    assert finish(job).status == 0
    compared = json.loads((output / "comparisons" / "two" / "comparison.json").read_text())
    assert list(compared["differences"].values()) == [summary["differences"]]


def artifacts(output: Path, run_name: str, *folders: str) -> set[str]:
    client = store_of(output)
    run_id = runs_of(output)[run_name].info.run_id
    return {file.path for folder in folders for file in client.list_artifacts(run_id, folder)}


def test_an_evaluation_has_a_run_of_its_own(output, again):
    summary, _ = again
    run = runs_of(output)["again"]
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/t2v/R1"] == summary["metrics"]["t2v/R1"]
    assert run.data.metrics["test/t2v/R1_low"] == summary["intervals"]["t2v/R1"][0]
    for key in ("dual_softmax/v2t/MnR", "qb_norm/t2v/R1", "against/t2v/R1", "against/t2v/R1_p"):
        assert f"test/{key}" in run.data.metrics
    assert "test/qb_norm/v2t/R1" not in run.data.metrics
    assert "--checkpoint xpool" in run.data.tags["mlflow.note.content"]
    (used,) = run.inputs.dataset_inputs
    assert used.dataset.name == "shapes-test"

    pages = {"report.html", "results.json", "failures.json"}
    assert artifacts(output, "again", "") >= pages
    assert artifacts(output, "again", "figures") == {f"figures/{name}.png" for name in NOTES}
    files = ("metrics.json", "ranks.parquet", "failures.parquet", "scores.npy")
    kept = artifacts(output, "again", "evaluations/again")
    assert kept == {f"evaluations/again/{name}" for name in files}
    # drawn because of --figures
    assert "figures/attention.png" in artifacts(output, "averaged", "figures")


@pytest.mark.usefixtures("again")
def test_the_logged_model_gives_the_scores_of_an_evaluation(output, tmp_path):
    results = output / "evaluations" / "again"
    queries = pq.read_table(results / "ranks.parquet").to_pylist()
    (corpus,) = (output / "corpora").iterdir()
    rows = folder_manifest(corpus).to_pylist()
    uri_of = {row["video_id"]: row["uri"] for row in rows}
    texts = [row["caption"] for row in queries if row["direction"] == "t2v"]
    videos = [uri_of[row["video_id"]] for row in queries if row["direction"] == "v2t"]

    client = store_of(output)
    run = client.get_run(runs_of(output)["xpool"].info.run_id)
    (best,) = run.outputs.model_outputs
    assert client.get_logged_model(best.model_id).name == "shapes"
    found = loaded_elsewhere(
        *(f"models:/{best.model_id}", tmp_path / "elsewhere", client.tracking_uri),
        texts=texts,
        videos=videos,
    )
    expected = np.load(results / "scores.npy")
    assert expected.shape == (36, 12)
    np.testing.assert_allclose(found["scores"], expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_another_split_recorded_in_the_training_run(output):
    before = runs_of(output)["xpool"]
    checkpoint = find_checkpoint("xpool", output)
    summary, _ = evaluated(
        *(output, "validation", "shapes", "--checkpoint", str(checkpoint)),
        *(*SMALL_SHAPES, "--eval.split", "val", "--into-training-run"),
    )
    assert summary["num_videos"] == 8
    assert (output / "evaluations" / "validation" / "config.json").is_file()
    own, runs = "evaluations/validation", runs_of(output)
    assert "validation" not in runs
    run = runs["xpool"]
    assert run.data.metrics["evaluate/validation/val/t2v/R1"] == summary["metrics"]["t2v/R1"]
    assert run.data.metrics["test/t2v/R1"] == before.data.metrics["test/t2v/R1"]
    assert (run.info.status, run.info.end_time) == (before.info.status, before.info.end_time)
    for name in ("metrics.json", "ranks.parquet", "failures.parquet", "report.html"):
        assert f"{own}/{name}" in artifacts(output, "xpool", own)
    drawn = artifacts(output, "xpool", f"{own}/figures")
    assert drawn == {f"{own}/figures/{name}.png" for name in NOTES}
    note = "mlflow.note.content"
    assert run.data.tags[note] == before.data.tags[note]


@pytest.mark.slow
def test_what_cannot_be_evaluated(output, tmp_path):
    to = ("--output-dir", str(output))
    assert "checkpoint 'nobody' is neither a file, nor" in refused("--checkpoint", "nobody", *to)
    assert "give --checkpoint, or --model.clip-pretrained" in refused("shapes", *to)
    towers = ("--model.clip-name", "ViT-B-32", "--model.clip-pretrained", "openai")
    assert "set --model.pooling mean for zero-shot" in refused("shapes", *to, *towers)
    message = refused("--checkpoint", "xpool", "--against", "nobody", *to)
    assert "against 'nobody' is neither a ranks.parquet" in message
    message = refused("--checkpoint", "xpool", "--model.num-heads", "2", *to)
    assert "tiny under xpool pooling of 2 heads, and checkpoint" in message
    message = refused("--checkpoint", "xpool", "--run-name", "xpool", *to)
    assert "run_name 'xpool' is used already in MLflow" in message
    message = refused("--checkpoint", "xpool", "--eval.split", "val", "--against", "averaged", *to)
    assert "does not rank the same queries: it has 48, this evaluation 32" in message
    other = ("--output-dir", str(tmp_path), "--into-training-run", "True")
    message = refused("--checkpoint", str(output / "runs" / "xpool"), *other)
    assert "has no run" in message
    assert not (tmp_path / "evaluations").exists()


@pytest.mark.slow
def test_a_test_video_that_is_broken_is_no_smaller_test_set(output, tmp_path):
    lines = ["video,caption,split"]
    for i in range(6):
        split = "test" if i < 4 else "train"
        write_video(tmp_path / f"{i}.mp4", 14)
        lines.append(f"{i}.mp4,caption {i},{split}")
    (tmp_path / "captions.csv").write_text("\n".join(lines))
    (tmp_path / "2.mp4").write_bytes(b"not a video at all" * 99)
    arguments = (
        *("clips", "--checkpoint", "xpool", "--data.root", str(tmp_path), "--eval.split", "test"),
        *("--data.max-bad-fraction", "0.5", "--eval.num-figures", "2"),
    )
    message = refused(*arguments, "--eval.allow-missing", "False", "--output-dir", str(output))
    assert "1 videos of the split 'test' cannot be decoded (2.mp4)" in message
    summary, out = evaluated(output, "with a hole", *arguments, "--eval.allow-missing", "True")
    assert (summary["num_videos"], summary["num_missing"]) == (3, 1)
    assert summary["missing"][0]["video_id"] == "2.mp4"
    assert "3 videos, 1 more missing" in out
    run = runs_of(output, "clips")["with a hole"]
    assert run.data.metrics["test/num_missing"] == 1


@pytest.mark.slow
def test_a_worker_that_dies_costs_only_time(output):
    marker = "evaluation with a death in it"
    process = start_job(
        *("--checkpoint", "xpool", "--output-dir", str(output), "--run-name", "survivor"),
        script="jobs/evaluate.py",
        XPOOL_TEST_MARKER=marker,
    )
    killed = False
    while process.poll() is None and not killed:
        for other in processes_of(marker):
            with contextlib.suppress(psutil.Error):  # it may have ended by itself
                if "_Encoder" in "".join(other.cmdline()):
                    other.kill()
                    killed = True
                    break
        time.sleep(0.02)
    done = finish(process)
    assert killed
    assert done.status == 0, done.err
    survivor = json.loads((output / "evaluations" / "survivor" / "metrics.json").read_text())
    training = json.loads((output / "runs" / "xpool" / "metrics.json").read_text())
    assert survivor["metrics"] == training["metrics"]
