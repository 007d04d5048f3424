"""jobs/compare.py on the runs of a real MLflow store, in a file and behind a server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import Done, finish, start_job
from mlflow.tracking import MlflowClient
from served_mlflow import served_mlflow

from recorded import record_run, write_evaluation
from xpool.bootstrap import paired_bootstrap
from xpool_platform.compare.config import ComparisonConfig, RecordConfig
from xpool_platform.compare.launch import run_comparison
from xpool_platform.console import Console
from xpool_platform.errors import UserError
from xpool_platform.result_files import read_ranks


def compare_job(*arguments: str) -> Done:
    return finish(start_job(*arguments, script="jobs/compare.py"), 120)


def opened(output: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{output / 'mlflow.db'}")


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    """Two trainings, an evaluation, a sweep, and runs that have nothing to compare."""
    folder = tmp_path_factory.mktemp("compared runs")
    client, artifacts = opened(folder), folder / "mlartifacts"
    results = {}
    for name, strength in (("good", 0.9), ("poor", 0.4), ("same", 0.9), ("between", 0.6)):
        results[name] = folder / "results" / name
        write_evaluation(results[name], strength)
    results["val"] = folder / "results" / "val"
    write_evaluation(results["val"], 0.5, split="val", num_videos=30)
    for name, pooling in (("good", "xpool"), ("poor", "mean")):
        params = {"model.pooling": pooling, "optim.clip_lr": "1e-06"}
        record_run(client, name, results[name], artifacts=artifacts, params=params)
    own = {"experiment": "other", "artifacts": artifacts}
    record_run(client, "same", results["same"], folder="evaluations/same", **own)
    record_run(client, "validated", results["val"], folder="evaluations/validated", **own)
    for experiment in ("shapes", "other"):
        record_run(client, "twice", results["good"], experiment=experiment)
    record_run(client, "running", None, status="RUNNING")
    record_run(client, "killed", None, status="KILLED")
    record_run(client, "bare", None)
    parent = record_run(client, "sweep", results["good"], folder="evaluations/sweep")
    for i, name in enumerate(("poor", None, "between", "good")):
        tags = {"mlflow.parentRunId": parent}
        params = {"loss.temperature": f"0.{i}"}
        found = results[name] if name else None
        record_run(client, f"sweep-{i:04d}", found, tags=tags, params=params)
    alone = record_run(client, "lonely sweep", None)
    tags = {"mlflow.parentRunId": alone}
    record_run(client, "lonely-0000", results["good"], tags=tags)
    record_run(client, "lonely-0001", None, tags=tags)
    return folder


def run_id(output: Path, name: str) -> str:
    client = opened(output)
    experiments = [each.experiment_id for each in client.search_experiments()]
    (run,) = client.search_runs(experiments, f"attributes.run_name = '{name}'")
    return run.info.run_id


def numbers_in(output: Path, name: str) -> dict:
    return json.loads((output / "comparisons" / name / "comparison.json").read_text())


def logged(client: MlflowClient, run: str, name: str) -> set[str]:
    found = client.list_artifacts(run, f"comparisons/{name}")
    return {file.path.rsplit("/", 1)[1] for file in found}


BOTH = {"comparison.html", "comparison.json"}


def test_runs_by_name_and_id(output):
    good, same = run_id(output, "good"), run_id(output, "same")
    done = compare_job("poor", good, "--name", "three", "same", "--output-dir", str(output))
    assert (done.status, done.err) == (0, "")
    for words in ("test: 80 captions, 40 videos", "model.pooling", "Holm", "good against poor"):
        assert words in done.out
    assert "optim.clip_lr" in done.out  # the evaluation has none
    numbers = numbers_in(output, "three")
    assert numbers["baseline"] == run_id(output, "poor")
    assert [run["name"] for run in numbers["runs"]] == ["poor", "good", "same"]
    assert numbers["differing"]["model.pooling"] == {
        run_id(output, "poor"): "mean",
        good: "xpool",
        same: "xpool",
    }
    assert numbers["differences"][good] == numbers["differences"][same]

    paths = [output / "results" / name / "ranks.parquet" for name in ("poor", "good")]
    queries = pq.read_table(paths[0])
    poor, better = (read_ranks(path, queries) for path in paths)
    expected = paired_bootstrap(better, poor)  # as `evaluate --against` does it
    found = numbers["differences"][good]
    assert {key: each["p_value"] for key, each in found.items()} == {
        key: each.p_value for key, each in expected.items()
    }
    for run in (numbers["baseline"], good, same):
        assert logged(opened(output), run, "three") == BOTH
    page = (output / "comparisons" / "three" / "comparison.html").read_text()
    assert page.startswith("<!doctype html>")
    assert page.count("data:image/png") == 2


def test_a_sweep_stands_for_its_trials(output):
    options = ("--output-dir", str(output), "--num-resamples", "200", "--name", "trials")
    done = compare_job("sweep", "good", *options, "--baseline", "sweep-0002")
    assert (done.status, done.err) == (0, "")
    assert "'sweep' is a sweep of 4 trials; compared are 3 of them" in done.out
    assert "without those that have no report: sweep-0001" in done.out
    names = [run["name"] for run in numbers_in(output, "trials")["runs"]]
    assert names == ["sweep-0002", "sweep-0000", "sweep-0003", "good"]
    client = opened(output)
    for name in (*names, "sweep"):
        assert logged(client, run_id(output, name), "trials") == BOTH
    assert logged(client, run_id(output, "sweep-0001"), "trials") == set()


def test_mistakes_are_one_sentence_with_status_1(output):
    done = compare_job("good", "por", "--output-dir", str(output))
    assert done.status == 1
    assert done.err.startswith("error: MLflow at sqlite:///")
    assert "has no run with the name or id 'por': did you mean 'poor'" in done.err
    done = compare_job("good", "--nam", "x")
    assert (
        done.err == "error: there is no option --nam: did you mean --name? --help lists them all\n"
    )
    done = compare_job("good", "poor", "--num-resamples", "3")
    assert "num_resamples must be at least 100, not 3" in done.err


def test_help_describes_the_options():
    done = compare_job("--help")
    assert done.status == 0
    for words in ("--tracking.uri", "--baseline", "Runs by name or id", "--num-resamples"):
        assert words in done.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"runs": ()}, "there is nothing to compare; give two runs or more"),
        ({"runs": ("good", "good")}, "only run 'good' is left to compare"),
        ({"runs": ("lonely sweep",)}, "only run 'lonely-0000' is left to compare"),
        ({"runs": ("good", "twice")}, "2 runs have the name 'twice'; give the id"),
        ({"runs": ("good", "a'b\"c")}, "has no run with the name or id"),
        ({"runs": ("good", "0" * 32)}, "has no run with the name or id '000"),
        ({"runs": ("good", "running")}, "run 'running' has no ranks.parquet: it is still running"),
        ({"runs": ("good", "killed")}, "it ended as KILLED before its report"),
        ({"runs": ("good", "bare")}, "run 'bare' has no ranks.parquet among its artifacts"),
        ({"runs": ("good", "validated")}, "validated and good do not rank the same queries"),
        ({"runs": ("good", "poor"), "split": "val"}, "run 'good' has no evaluation on split 'val'"),
        ({"runs": ("good", "poor"), "baseline": "sweep"}, "baseline 'sweep' is a sweep"),
        ({"runs": ("good", "poor"), "name": "../x"}, "'../x' is no name of a folder"),
        ({"runs": ("good", "poor"), "name": ".."}, "'..' is no name of a folder"),
        ({"runs": ("good", "poor"), "name": "here"}, "name 'here' is used already"),
    ],
)
def test_what_cannot_be_compared(output, options, words):
    (output / "comparisons" / "here").mkdir(parents=True, exist_ok=True)
    with pytest.raises(UserError) as caught:
        run_comparison(ComparisonConfig(output_dir=str(output), **options), Console())
    assert words in str(caught.value)


def test_a_store_that_is_not_there_is_not_made(tmp_path):
    config = ComparisonConfig(runs=("a", "b"), output_dir=str(tmp_path))
    with pytest.raises(UserError, match="there is no MLflow store"):
        run_comparison(config, Console())
    assert not (tmp_path / "mlflow.db").exists()


def test_one_of_several_evaluations_is_chosen_by_its_split(tmp_path):
    client, artifacts = opened(tmp_path), tmp_path / "mlartifacts"
    for name, split in (("test", "test"), ("val", "val"), ("again", "test")):
        write_evaluation(tmp_path / name, 0.5, split=split, num_videos=12)
    runs = [record_run(client, name, tmp_path / "test", artifacts=artifacts) for name in ("a", "b")]
    interrupted = record_run(client, "c", None, status="KILLED")
    for run in (*runs, interrupted):
        for name in ("again", "val"):
            client.log_artifacts(run, str(tmp_path / name), f"evaluations/{name}")

    def compared(*names: str, **options):
        config = ComparisonConfig(
            runs=names, num_resamples=100, output_dir=str(tmp_path), name="-".join(names), **options
        )
        return run_comparison(config, Console()).comparison

    assert [run.report.split for run in compared("a", "b").runs] == ["test"] * 2
    validated = compared("b", "a", "c", split="val")
    assert [run.report.split for run in validated.runs] == ["val"] * 3
    assert validated.warnings[-1].startswith("c (KILLED) did not finish")
    with pytest.raises(UserError, match=r"no report of its own and 2 evaluations .*by --split"):
        compared("a", "c")


def test_a_store_that_takes_nothing_more_costs_no_result(tmp_path):
    client, artifacts = opened(tmp_path), tmp_path / "mlartifacts"
    write_evaluation(tmp_path / "results", 0.5)
    runs = [
        record_run(client, name, tmp_path / "results", artifacts=artifacts) for name in ("a", "b")
    ]
    (artifacts / runs[1] / "artifacts" / "comparisons").write_text("where a folder is to be")
    options = ("--num-resamples", "100", "--name", "kept", "--output-dir", str(tmp_path))
    done = compare_job("a", "b", *options)
    assert (done.status, done.err) == (0, "")
    assert "1 of 2 runs have it in MLflow, since" in done.out
    assert (tmp_path / "comparisons" / "kept" / "comparison.html").is_file()
    assert logged(client, runs[0], "kept") == BOTH


@pytest.fixture
def server(tmp_path) -> Iterator[str]:
    """The URI of an MLflow server that keeps the artifacts itself."""
    with served_mlflow(tmp_path / "served") as running:
        yield running.uri


def test_runs_behind_a_server(server, tmp_path):
    client = MlflowClient(server)
    ids = []
    for name, strength in (("one", 0.8), ("two", 0.5)):
        write_evaluation(tmp_path / name, strength)
        ids.append(record_run(client, name, tmp_path / name))
    options = ("--tracking.uri", server, "--name", "served", "--output-dir", str(tmp_path / "out"))
    done = compare_job("one", ids[1], *options)
    assert (done.status, done.err) == (0, "")
    assert f"MLflow: open {server}" in done.out
    for run in ids:
        assert logged(client, run, "served") == BOTH
    kept = client.download_artifacts(run, "comparisons/served/comparison.json", str(tmp_path))
    assert json.loads(Path(kept).read_text()) == numbers_in(tmp_path / "out", "served")
    elsewhere = ComparisonConfig(runs=("one", "0" * 32), tracking=RecordConfig(uri=server))
    with pytest.raises(UserError, match="has no run with the name or id '000"):
        run_comparison(elsewhere, Console())
