"""Where corpora, decoded frames, runs and MLflow's file go unless the user says otherwise."""

import os
from pathlib import Path


def default_output_dir() -> Path:
    """XPOOL_OUTPUT_DIR; else `outputs` here, or at home where here is a job's throw-away copy."""
    chosen = os.environ.get("XPOOL_OUTPUT_DIR")
    if chosen:
        return Path(chosen)
    if "runtime_resources" in Path.cwd().parts:
        return Path.home() / "xpool-outputs"
    return Path("outputs")
