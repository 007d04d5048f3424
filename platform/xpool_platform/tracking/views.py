"""Views of an experiment's runs, saved in MLflow: the columns that answer how good each one is.

MLflow's table of runs shows no metric until somebody picks columns. A view keeps a choice of them
as a tag of the experiment; it is in the page's menu "Views" and has an address.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

TAG = "mlflow.sharedViewState."
"""MLflow's pages take what follows as the view's key, and the value as its state."""


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """A choice of columns, in their order."""

    key: str
    name: str
    params: Sequence[str] = ()
    metrics: Sequence[str] = ()
    tags: Sequence[str] = ()


RETRIEVAL = View(
    key="retrieval",
    name="Retrieval",
    params=("model.pooling",),
    metrics=(
        *("test/t2v/R1", "test/t2v/R1_low", "test/t2v/R1_high"),
        *("test/t2v/R5", "test/t2v/R10", "test/t2v/MdR", "test/v2t/R1"),
    ),
)
"""Recall with the interval of R@1."""

TRIALS = View(
    key="trials",
    name="Trials",
    params=("loss.temperature", "data.num_frames", "optim.clip_lr", "optim.pooling_lr"),
    metrics=("trial/best", "trial/best_low", "trial/best_high"),
    tags=("trial.ended",),
)
"""The trials of a sweep."""

VIEWS = (RETRIEVAL, TRIALS)


def view_tags() -> dict[str, str]:
    """The experiment's tags that make the views."""
    return {f"{TAG}{view.key}": _saved(view) for view in VIEWS}


def _saved(view: View) -> str:
    names_of = {"params": view.params, "metrics": view.metrics, "tags": view.tags}
    columns = {f"{kind}.`{name}`": name for kind, names in names_of.items() for name in names}
    state = {
        "selectedColumns": list(columns),
        "columnOrder": list(columns),
        "columnWidths": {column: _width(name) for column, name in columns.items()},
    }
    kept = {"name": view.name, "createdAt": 0, "updatedAt": 0, "state": json.dumps(state)}
    return json.dumps(kept)


def _width(name: str) -> int:
    """In pixels, so that the name is not cut off."""
    return round(len(name) * 7.5) + 26
