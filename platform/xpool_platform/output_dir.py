"""Where corpora, decoded frames, runs and MLflow's file go unless the user says otherwise."""

import os
from pathlib import Path

from xpool_platform.credentials import refuse_credentials
from xpool_platform.errors import UserError
from xpool_platform.locations import absolute, is_uri


def resolve_output_dir(given: str = "") -> Path:
    """The absolute path of the output folder: the one given or, where none is, the default.

    Raises UserError for an object store.
    """
    refuse_credentials({"output_dir": given})
    folder = absolute(given or default_output_dir())
    if is_uri(folder):
        raise UserError(
            f"output_dir {folder!r} is an object store, and journals and locks need a disk; "
            "set --output-dir to a folder, and --data.frames-dir and --train.checkpoints-dir to "
            "places in the object store"
        )
    return Path(folder)


def default_output_dir() -> str:
    """XPOOL_OUTPUT_DIR; else `outputs` here, or at home where here is a job's throw-away copy."""
    chosen = os.environ.get("XPOOL_OUTPUT_DIR")
    if chosen:
        return chosen
    if "runtime_resources" in Path.cwd().parts:
        return str(Path.home() / "xpool-outputs")
    return "outputs"
