"""Where a run can be looked at."""

import os
import shlex
from pathlib import Path

from xpool_platform.tracking.views import View

STORE = "mlflow.db"
"""MLflow's file in the output folder."""


def how_to_open(
    tracking_uri: str, checkout: Path, experiment_id: str = "", run_id: str = ""
) -> str:
    """The line that says how to open MLflow: a run's page on a server, where it is known.

    `make ui` opens the default store of a checkout.
    """
    if tracking_uri.startswith(("http://", "https://")):
        page = f"/#/experiments/{experiment_id}/runs/{run_id}" if experiment_id else ""
        return f"MLflow: open {tracking_uri.rstrip('/')}{page}"
    opened = checkout / (os.environ.get("XPOOL_OUTPUT_DIR") or "outputs") / STORE
    shorter = "make ui, or " if tracking_uri == f"sqlite:///{opened}" else ""
    return f"MLflow: {shorter}mlflow ui --backend-store-uri {shlex.quote(tracking_uri)}"


def runs_page(server: str, experiment_id: str, view: View | None = None) -> str:
    """The address of an experiment's table of runs; MLflow's own link leads to pages for agents."""
    shared = f"&viewStateShareKey={view.key}" if view else ""
    return f"{server}/#/experiments/{experiment_id}/runs?workflowType=machine_learning{shared}"
