"""What runs could not send while their tracking server was away, sent afterwards."""

from collections.abc import Sequence
from pathlib import Path

from xpool_platform.errors import UserError
from xpool_platform.tracking.journal import TRACKING, journals, num_unsent, run_of
from xpool_platform.tracking.mlflow_run import MlflowRun
from xpool_platform.tracking.sender import AwayError, Say, send_left

KINDS = ("runs", "sweeps", "evaluations")
"""Folders of the output folder whose folders hold journals."""


def send_what_is_left(
    output_dir: Path, names: Sequence[str], say: Say, *, tracking_uri: str = ""
) -> bool:
    """Send the records of the runs of these names, of all without a name; whether all were sent.

    They go to tracking_uri, or to where each was recorded. Raises UserError for an unknown name.
    """
    folders = [folder for kind in KINDS for folder in sorted((output_dir / kind).glob("*"))]
    known = {folder.name for folder in folders}
    for name in names:
        if name not in known:
            raise UserError(
                f"there is no run {name!r} in {output_dir}; give the name of a run, a sweep or an "
                "evaluation there, or --output-dir"
            )
    found, all_sent = False, True
    for folder in folders:
        if (names and folder.name not in names) or not num_unsent(folder / TRACKING):
            continue
        found = True
        run = run_of(journals(folder / TRACKING)[0])
        destination = MlflowRun(tracking_uri or run.uri, run.run_id, say=say)
        try:
            sent, refused = send_left(folder, destination)
        except AwayError as error:
            say(f"{folder.name}: {error}")
            all_sent = False
            continue
        aside = f", {refused} refused and put aside" if refused else ""
        say(f"{folder.name}: {sent} entries sent{aside}")
        all_sent = all_sent and not refused
    if not found:
        say("everything was sent already")
    return all_sent
