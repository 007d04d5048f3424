"""jobs/evaluate.py on checkpoints of ours and of the authors, and without any."""

import contextlib
import json
import time
from pathlib import Path

import numpy as np
import open_clip
import psutil
import pyarrow.parquet as pq
import pytest
import torch
from conftest import SMALL_SHAPES, evaluate, finish, processes_of, start_job, train
from mlflow.tracking import MlflowClient
from test_train_job import runs_of

from videos import write_video
from xpool.bootstrap import paired_bootstrap
from xpool.metrics import RetrievalRanks, metrics_of_ranks
from xpool.model import build_model
from xpool_platform.checkpoint_files import find_checkpoint
from xpool_platform.experiments import shapes

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


def test_a_run_by_its_name_gives_the_figures_of_its_training(output):
    summary, out = evaluated(
        output, "again", "--checkpoint", "xpool", "--save-scores", "True", "--against", "averaged"
    )
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

    run = runs_of(output)["again"]
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/t2v/R1"] == summary["metrics"]["t2v/R1"]
    assert run.data.metrics["test/t2v/R1_low"] == summary["intervals"]["t2v/R1"][0]
    for key in ("dual_softmax/v2t/MnR", "qb_norm/t2v/R1", "against/t2v/R1", "against/t2v/R1_p"):
        assert f"test/{key}" in run.data.metrics
    assert "test/qb_norm/v2t/R1" not in run.data.metrics
    client = MlflowClient(f"sqlite:///{output / 'mlflow.db'}")
    kept = client.list_artifacts(run.info.run_id, "evaluations/again")
    assert {Path(item.path).name for item in kept} == {
        "metrics.json",
        "ranks.parquet",
        "scores.npy",
    }


@pytest.mark.slow
def test_another_split_recorded_in_the_training_run(output):
    before = runs_of(output)["xpool"]
    checkpoint = find_checkpoint("xpool", output)
    summary, _ = evaluated(
        *(output, "validation", "shapes", "--checkpoint", str(checkpoint)),
        *(*SMALL_SHAPES, "--eval.split", "val", "--into-training-run", "True"),
    )
    assert summary["num_videos"] == 8
    assert (output / "evaluations" / "validation" / "config.json").is_file()
    runs = runs_of(output)
    assert "validation" not in runs
    run = runs["xpool"]
    assert run.data.metrics["evaluate/validation/val/t2v/R1"] == summary["metrics"]["t2v/R1"]
    assert run.data.metrics["test/t2v/R1"] == before.data.metrics["test/t2v/R1"]
    assert (run.info.status, run.info.end_time) == (before.info.status, before.info.end_time)


@pytest.mark.slow
def test_zero_shot_towers_are_the_baseline(output, tmp_path):
    weights = tmp_path / "towers.pt"
    model = build_model(shapes().model)
    torch.save(model.clip.state_dict(), weights)
    summary, _ = evaluated(
        *(output, "zero-shot", "shapes", "--model.pooling", "mean", *SMALL_SHAPES),
        *("--model.clip-pretrained", str(weights)),
    )
    assert summary["checkpoint"] == ""
    assert summary["num_captions"] == 36


def authors_checkpoint(path: Path) -> None:
    """A file in the authors' format: small towers that read CLIP's own tokens."""
    torch.manual_seed(0)
    width, tokens = 64, open_clip.get_tokenizer("ViT-B-32")(["a"])
    weights: dict[str, torch.Tensor] = {
        "clip.logit_scale": torch.tensor(4.6),
        "clip.text_model.embeddings.token_embedding.weight": torch.randn(49408, width) * 0.02,
        "clip.text_model.embeddings.position_embedding.weight": torch.randn(tokens.shape[1], width),
        "clip.vision_model.embeddings.class_embedding": torch.randn(width),
        "clip.vision_model.embeddings.patch_embedding.weight": torch.randn(width, 3, 16, 16) * 0.02,
        "clip.vision_model.embeddings.position_embedding.weight": torch.randn(10, width),
        "clip.text_projection.weight": torch.randn(32, width) * 0.1,
        "clip.visual_projection.weight": torch.randn(32, width) * 0.1,
    }
    sizes = {"self_attn.q_proj": (width, width), "self_attn.k_proj": (width, width)}
    sizes |= {"self_attn.v_proj": (width, width), "self_attn.out_proj": (width, width)}
    sizes |= {"mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
    for tower, norms in (
        ("text_model", ["final_layer_norm"]),
        ("vision_model", ["pre_layrnorm", "post_layernorm"]),
    ):
        layer = f"clip.{tower}.encoder.layers.0"
        for name, size in sizes.items():
            weights[f"{layer}.{name}.weight"] = torch.randn(size) * 0.1
            weights[f"{layer}.{name}.bias"] = torch.zeros(size[0])
        for name in (*(f"clip.{tower}.{n}" for n in norms), f"{layer}.layer_norm1"):
            weights |= {f"{name}.weight": torch.ones(width), f"{name}.bias": torch.zeros(width)}
        name = f"{layer}.layer_norm2"
        weights |= {f"{name}.weight": torch.ones(width), f"{name}.bias": torch.zeros(width)}
    for name in ("cross_attn.q", "cross_attn.k", "cross_attn.v", "cross_attn.out", "linear"):
        weights[f"pool_frames.{name}_proj.weight"] = torch.eye(32)
        weights[f"pool_frames.{name}_proj.bias"] = torch.zeros(32)
    for i in (1, 2, 3):
        weights[f"pool_frames.layer_norm{i}.weight"] = torch.ones(32)
        weights[f"pool_frames.layer_norm{i}.bias"] = torch.zeros(32)
    torch.save({"epoch": 5, "state_dict": weights, "optimizer": {}}, path)


def test_a_checkpoint_of_the_authors(output, tmp_path):
    path = tmp_path / "model_best.pth"
    authors_checkpoint(path)
    summary, _ = evaluated(
        *(output, "theirs", "shapes", *SMALL_SHAPES, "--checkpoint", str(path)),
        *("--model.clip-name", "ViT-B-32"),
    )
    assert summary["checkpoint"] == str(path)
    assert summary["num_videos"] == 12


@pytest.mark.slow
def test_files_that_are_no_checkpoint_for_these_towers(output, tmp_path):
    path = tmp_path / "model_best.pth"
    authors_checkpoint(path)
    small = ("--output-dir", str(output), *SMALL_SHAPES)
    message = refused("shapes", *small, "--checkpoint", str(path))
    assert "reads 77 tokens of a vocabulary of 49408, and the tokenizer of tiny gives 32" in message
    assert "name the experiment whose data" in refused("--checkpoint", str(path))
    torch.save({"state_dict": {"a.weight": torch.zeros(2)}}, path)
    message = refused("shapes", *small, "--checkpoint", str(path))
    assert "model_best.pth is not a checkpoint of X-Pool's authors: missing" in message
    assert "unexpected 1 (a.weight)" in message


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
