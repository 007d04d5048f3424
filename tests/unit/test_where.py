"""How to open MLflow, as the jobs say it."""

from pathlib import Path

from xpool_platform.tracking.where import how_to_open, runs_page

CHECKOUT = Path("/home/me/xpool")


def test_make_ui_is_named_where_it_opens_the_store(monkeypatch):
    own = f"sqlite:///{CHECKOUT}/outputs/mlflow.db"
    monkeypatch.delenv("XPOOL_OUTPUT_DIR", raising=False)
    assert "make ui" in how_to_open(own, CHECKOUT)
    assert "make ui" not in how_to_open("sqlite:////data/mlflow.db", CHECKOUT)
    monkeypatch.setenv("XPOOL_OUTPUT_DIR", "/data")
    assert "make ui" in how_to_open("sqlite:////data/mlflow.db", CHECKOUT)
    assert "make ui" not in how_to_open(own, CHECKOUT)


def test_a_server_is_named_by_its_address():
    assert how_to_open("https://mlflow.lab", CHECKOUT) == "MLflow: open https://mlflow.lab"
    line = how_to_open("https://mlflow.lab/", CHECKOUT, "3", "abc")
    assert line == "MLflow: open https://mlflow.lab/#/experiments/3/runs/abc"


def test_the_table_of_runs_is_that_of_trainings():
    assert runs_page("http://a:1", "3") == (
        "http://a:1/#/experiments/3/runs?workflowType=machine_learning"
    )
