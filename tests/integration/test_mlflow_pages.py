"""MLflow's pages of three trainings, as a browser shows them.

XPOOL_SCREENSHOTS names a folder for the pictures. With XPOOL_WHOLE_RUNS set the trainings are the
default experiment's, as for the pictures in docs/: `make screenshots`.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from browser import Screen, browser, needs_browser
from conftest import SMALL_SHAPES, train
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from mlflow_screens import (
    CHART,
    cell,
    compare_all,
    draw_against,
    drawn,
    is_in_sight,
    is_shown,
    metric_row,
    numbers_in_row,
    open_artifact,
    open_run,
    params_row,
    search,
)
from served_mlflow import served_mlflow

from xpool_platform.tracking.figures.notes import NOTES
from xpool_platform.tracking.views import RETRIEVAL
from xpool_platform.tracking.where import runs_page

pytestmark = [pytest.mark.ray, pytest.mark.slow, needs_browser]

OPTIONS = () if os.environ.get("XPOOL_WHOLE_RUNS") else SMALL_SHAPES
RUNS = {
    "attention": (),
    "mean pooling": ("--model.pooling", "mean"),
    "slower": ("--optim.pooling-lr", "1e-4"),
}
DIFFERENT = "model.pooling", "optim.pooling_lr"

NOT_A_FIRST_VISIT = {
    "mlflow.workflowType_v1": '"machine_learning"',
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
    "mlflow.assistant.panelOpen_v1": "false",
}
"""Somebody who has chosen the pages for training, and closed the assistant's panel."""

COMPLAINTS_OF_MLFLOWS = "/mlflow/users/current", "ResizeObserver loop"
"""It asks who one is, and a server without users answers 404; its charts are resized twice."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """Three runs on a server."""

    client: MlflowClient
    address: str
    experiment_id: str
    runs: dict[str, Run]

    def values(self, run_name: str, metric: str) -> list[float]:
        history = self.client.get_metric_history(self.runs[run_name].info.run_id, metric)
        return [each.value for each in history]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Iterator[Recorded]:
    folder = tmp_path_factory.mktemp("served")
    with served_mlflow(folder) as server:
        for name, options in RUNS.items():
            done = train(
                *("shapes", *OPTIONS, *options, "--run-name", name),
                *("--output-dir", str(folder / "outputs"), "--tracking.uri", server.uri),
                timeout_s=900,
            )
            assert done.status == 0, done.err
        yield recorded_on(server.uri)


def recorded_on(address: str) -> Recorded:
    client = MlflowClient(address)
    experiment_id = client.get_experiment_by_name("shapes").experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([experiment_id])}
    assert runs.keys() == RUNS.keys()
    return Recorded(client=client, address=address, experiment_id=experiment_id, runs=runs)


@pytest.fixture(scope="module")
def window(recorded, tmp_path_factory) -> Iterator[Screen]:
    folder = tmp_path_factory.mktemp("browser")
    visited = {"size": (1360, 900), "remembered": NOT_A_FIRST_VISIT}
    with browser(recorded.address, folder, **visited) as opened:
        yield opened


@pytest.fixture
def screen(window) -> Iterator[Screen]:
    window.complaints()
    yield window
    complaints = window.complaints()
    assert not [each for each in complaints if not any(k in each for k in COMPLAINTS_OF_MLFLOWS)]


def test_the_experiment_shows_how_good_each_run_is(screen, recorded):
    address = runs_page(recorded.address, recorded.experiment_id, RETRIEVAL)
    screen.open(address.removeprefix(f"{recorded.address}/"))
    screen.see(*RUNS, *RETRIEVAL.params, "test/t2v/R1", "test/t2v/R5")
    for name, run in recorded.runs.items():
        assert numbers_in_row(screen, name) >= {
            run.data.metrics["test/t2v/R1"],
            run.data.metrics["test/t2v/R1_low"],
        }
    screen.keep("mlflow_experiment")


def test_a_run_says_what_it_is_and_how_good(screen, recorded):
    run = recorded.runs["slower"]
    open_run(screen, recorded.experiment_id, "slower")
    screen.see("Finished", "Parameters", "Metrics", "Tags", "pooling", "command")
    screen.keep("mlflow_overview")
    screen.find("button", "Show more").click()
    screen.see(f"{run.data.metrics['test/t2v/R1']:.1f} (", "--optim.pooling-lr 0.0001")
    screen.keep("mlflow_note")
    assert is_in_sight(screen, "About this run")
    screen.see("jobs/train.py", run.data.tags["mlflow.source.git.commit"][:7])
    screen.see("Logged models (1)")
    screen.find("[data-component-type=tag]", "+2").click()  # data sets without room beside it
    datasets = [used.dataset for used in run.inputs.dataset_inputs]
    assert len(datasets) == 3
    screen.see(*(f"{dataset.name} ({dataset.digest})" for dataset in datasets))
    screen.find("h1, h2").click()  # closes their list
    search(screen, "Search metrics", "test/t2v/R1")
    assert float(cell(screen, "test/t2v/R1").text) == run.data.metrics["test/t2v/R1"]
    search(screen, "Search parameters", "optim.pooling_lr")
    assert cell(screen, "optim.pooling_lr").text == "0.0001"


def test_the_loss_is_a_curve(screen, recorded):
    open_run(screen, recorded.experiment_id, "attention")
    screen.find("[role=tab]", "Model metrics").click()
    search(screen, "Search metric charts", "train/loss")
    screen.wait(lambda: screen.texts(f"{CHART} .xtitle") == ["Step"], "one chart over the steps")
    shown = drawn(screen, "loss")
    losses = recorded.values("attention", "train/loss")
    assert len(shown) >= 12  # of long runs MLflow shows a sample
    assert set(shown) <= set(losses)
    assert shown[-1] == losses[-1]
    screen.keep("mlflow_curve")


def test_how_busy_the_machine_was_is_drawn(screen, recorded):
    open_run(screen, recorded.experiment_id, "attention")
    screen.find("[role=tab]", "System metrics").click()
    for name in ("cpu_utilization_percentage", "system_memory_usage_percentage"):
        measured = recorded.values("attention", f"system/{name}")
        assert set(drawn(screen, name)) <= set(measured)
    screen.keep("mlflow_system")


def test_every_figure_of_a_run_is_shown(screen, recorded):
    run_id = recorded.runs["attention"].info.run_id
    figures = [file.path for file in recorded.client.list_artifacts(run_id, "figures")]
    assert set(figures) == {f"figures/{name}.png" for name in NOTES}
    open_run(screen, recorded.experiment_id, "attention")
    open_artifact(screen, "figures")
    for figure in figures:
        name = figure.removeprefix("figures/")
        screen.find("[data-testid=artifact-tree-node]", name).click()
        screen.wait(lambda shown=figure: is_shown(screen, shown), f"the picture of {figure}")
        picture = "mlflow_run" if name == "attention.png" else f"mlflow_figure_{name[:-4]}"
        screen.keep(picture)


def test_the_report_and_the_tables_of_a_run_are_shown(screen, recorded):
    open_run(screen, recorded.experiment_id, "attention")
    open_artifact(screen, "report.html")
    with screen.within("iframe"):
        screen.see("attention", "Results on test", "Repeat it")
        pictures = "return [...document.images].map(i => [i.alt, i.complete && i.naturalWidth > 0])"
        shown = dict(screen.driver.execute_script(pictures))
        assert shown == dict.fromkeys(NOTES, True)
    screen.keep("mlflow_report")
    screen.find("[data-testid=artifact-tree-node]", "results.json").click()
    screen.see("View as table", "test/t2v/R1", "chance")
    screen.keep("mlflow_table")


def test_three_runs_are_compared(screen, recorded):
    compare_all(screen, recorded.experiment_id)
    screen.see("Comparing 3 Runs from 1 Experiment", *RUNS)
    draw_against(screen, DIFFERENT, "test/t2v/R1")
    screen.keep("mlflow_compare")

    screen.find("[aria-label='Parameters - Show diff only']").click()
    fields = ".mlflow-compare-run-table th"
    screen.wait(lambda: "data.cache" not in screen.texts(fields), "the fields that differ alone")
    assert set(screen.texts(fields)) >= set(DIFFERENT)
    pooling = [run.data.params["model.pooling"] for run in recorded.runs.values()]
    assert sorted(params_row(screen, "model.pooling")) == sorted(pooling)
    recalls = [run.data.metrics["test/t2v/R1"] for run in recorded.runs.values()]
    assert sorted(metric_row(screen, "test/t2v/R1")) == pytest.approx(sorted(recalls), rel=1e-3)
