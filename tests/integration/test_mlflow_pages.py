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
    cell,
    compare_all,
    draw_against,
    is_shown,
    metric_row,
    numbers_in_row,
    open_run,
    params_row,
    search,
)
from served_mlflow import served_mlflow

from xpool_platform.tracking.views import RETRIEVAL, view_tags
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

    def figures(self, name: str) -> list[str]:
        found = self.client.list_artifacts(self.runs[name].info.run_id, "figures")
        return [file.path for file in found if file.path.endswith(".png")]


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
    for key, value in view_tags().items():
        client.set_experiment_tag(experiment_id, key, value)
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
    # the run's note, its data sets and its source are seen here once they are recorded
    search(screen, "Search metrics", "test/t2v/R1")
    assert float(cell(screen, "test/t2v/R1").text) == run.data.metrics["test/t2v/R1"]
    search(screen, "Search parameters", "optim.pooling_lr")
    assert cell(screen, "optim.pooling_lr").text == "0.0001"
    screen.keep("mlflow_overview")


def test_the_loss_is_a_curve(screen, recorded):
    run = recorded.runs["attention"]
    open_run(screen, recorded.experiment_id, "attention")
    screen.find("[role=tab]", "Model metrics").click()
    search(screen, "Search metric charts", "train/loss")
    card = "[data-testid=experiment-view-compare-runs-card]"
    screen.wait(lambda: screen.texts(f"{card} .xtitle") == ["Step"], "one chart over the steps")
    shown = screen.driver.execute_script(
        f"return document.querySelector('{card} .js-plotly-plot').data[0].y"
    )
    history = recorded.client.get_metric_history(run.info.run_id, "train/loss")
    losses = [each.value for each in history]
    assert len(shown) >= 12  # of long runs MLflow shows a sample
    assert set(shown) <= set(losses)
    assert shown[-1] == losses[-1]
    screen.keep("mlflow_curve")
    # the tab "System metrics" is opened here once they are recorded


def test_every_figure_of_a_run_is_shown(screen, recorded):
    open_run(screen, recorded.experiment_id, "attention")
    screen.find("[role=tab]", "Artifacts").click()
    screen.find("[data-testid=artifact-tree-node]", "figures").click()
    figures = recorded.figures("attention")
    assert "figures/attention.png" in figures
    for figure in figures:
        name = figure.removeprefix("figures/")
        screen.find("[data-testid=artifact-tree-node]", name).click()
        screen.wait(lambda shown=figure: is_shown(screen, shown), f"the picture of {figure}")
        picture = "mlflow_run" if name == "attention.png" else f"mlflow_figure_{name[:-4]}"
        screen.keep(picture)
    # report.html is opened here once it is recorded


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
