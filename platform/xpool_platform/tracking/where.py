"""Where a run can be looked at."""

import shlex


def how_to_open(tracking_uri: str) -> str:
    """The line that says how to open MLflow."""
    if tracking_uri.startswith(("http://", "https://")):
        return f"MLflow: open {tracking_uri}"
    return f"MLflow: mlflow ui --backend-store-uri {shlex.quote(tracking_uri)}  (or: make ui)"
