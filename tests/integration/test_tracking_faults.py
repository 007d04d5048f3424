"""Trainings whose tracking server goes away, and whose driver dies meanwhile."""

import pytest
from conftest import finish, start_job
from mlflow.tracking import MlflowClient
from served_mlflow import ServedMlflow, served_mlflow
from watched_runs import read_until_step, start

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NUM_STEPS = 500
"""Enough for a server to come back before the end."""

STEPS = ("--train.num-steps", str(NUM_STEPS))


def assert_whole(server: ServedMlflow, run_name: str) -> None:
    """One run of this name, finished, with each step of each curve once."""
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("shapes").experiment_id
    (run,) = client.search_runs([experiment], f"run_name = '{run_name}'")
    assert run.info.status == "FINISHED"
    run_id = run.info.run_id
    for key in ("train/loss", "train/grad_norm", "train/lr_clip", "train/logit_scale"):
        steps = [metric.step for metric in client.get_metric_history(run_id, key)]
        assert steps == list(range(1, NUM_STEPS + 1))
    evaluated = [metric.step for metric in client.get_metric_history(run_id, "val/t2v/R1")]
    assert evaluated == [NUM_STEPS // 2, NUM_STEPS]
    for key in ("test/t2v/R1", "best/step"):
        assert [metric.step for metric in client.get_metric_history(run_id, key)] == [NUM_STEPS]
    loads = client.get_metric_history(run_id, "system/cpu_utilization_percentage")
    assert len({metric.step for metric in loads}) == len(loads) > 1
    kept = {each.path for each in client.list_artifacts(run_id)}
    assert {"config.json", "figures", "checkpoints", "ranks.parquet"} <= kept


def test_a_server_that_goes_away_holds_up_nothing_and_misses_nothing(tmp_path):
    with served_mlflow(tmp_path / "served") as server:
        tracked = ("--tracking.uri", server.uri)
        process = start(tmp_path / "out", "alone", *STEPS, *tracked)
        before = read_until_step(process, 20)
        server.kill()
        lines = before + read_until_step(process, 80)
        server.start()
        done = finish(process)
        assert done.status == 0, done.err
        assert "does not take what is logged" in lines
        assert "the tracking store answers again" in done.out
        assert_whole(server, "alone")


@pytest.mark.long
def test_a_driver_that_dies_while_the_server_is_away_leaves_one_whole_run(tmp_path):
    with served_mlflow(tmp_path / "served") as server:
        tracked = ("--tracking.uri", server.uri)
        process = start(tmp_path / "out", "killed", *STEPS, *tracked)
        read_until_step(process, 20)
        server.kill()
        read_until_step(process, 80)
        process.kill()
        process.wait()
        goes_on = start_job("--resume", "killed", "--output-dir", str(tmp_path / "out"))
        read_until_step(goes_on, 120)  # the server is away still
        server.start()
        done = finish(goes_on)
        assert done.status == 0, done.err
        assert_whole(server, "killed")
