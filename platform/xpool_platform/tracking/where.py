"""Where a run can be looked at."""

import shlex
from pathlib import Path


def how_to_open(tracking_uri: str, checkout: Path) -> str:
    """The line that says how to open MLflow; `make ui` opens the default store of a checkout."""
    if tracking_uri.startswith(("http://", "https://")):
        return f"MLflow: open {tracking_uri}"
    shorter = "make ui, or " if tracking_uri == f"sqlite:///{checkout}/outputs/mlflow.db" else ""
    return f"MLflow: {shorter}mlflow ui --backend-store-uri {shlex.quote(tracking_uri)}"
