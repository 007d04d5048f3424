"""A whole comparison: runs found, compared, shown, and recorded with each of them."""

import json
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from xpool_platform.compare.chosen_runs import chosen_runs, with_results
from xpool_platform.compare.comparison import Comparison, compare
from xpool_platform.compare.config import ComparisonConfig
from xpool_platform.console import Console
from xpool_platform.credentials import refuse_credentials
from xpool_platform.data.plain_text import id_problem
from xpool_platform.errors import UserError
from xpool_platform.output_dir import resolve_output_dir

COMPARISONS = "comparisons"
PAGE, NUMBERS = "comparison.html", "comparison.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonResult:
    """What a comparison leaves behind."""

    comparison: Comparison
    folder: Path
    """Of the page and the numbers."""

    tracking_uri: str
    not_logged: str
    """Why the runs do not have it among their artifacts; empty: they have."""


def run_comparison(config: ComparisonConfig, console: Console) -> ComparisonResult:
    """Compare runs and keep the result in `comparisons/NAME` and with each run.

    Raises UserError for what the user can put right, before anything is written.
    """
    if not config.runs:
        raise UserError(
            "there is nothing to compare; give two runs or more, by name or id, or a sweep: "
            "python jobs/compare.py RUN RUN"
        )
    made_at = datetime.now()
    output_dir = resolve_output_dir(config.output_dir)
    folder = _new_folder(config.name or f"{made_at:%Y%m%d-%H%M%S}", output_dir)
    # a second of imports that a wrong name is spared
    from xpool_platform.tracking.recorded_runs import RecordedRuns  # noqa: PLC0415

    uri = config.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    refuse_credentials({"tracking.uri": uri})
    store = RecordedRuns(uri or f"sqlite:///{output_dir / 'mlflow.db'}")
    runs, sweeps = chosen_runs(config, store, console)
    compared = with_results(runs, config.split, store)
    with console.stage("comparing") as stage:
        comparison = compare(
            compared, name=folder.name, num_resamples=config.num_resamples, progress=stage
        )
    _write(comparison, folder, made_at)
    not_logged = ""
    for i, run in enumerate([*runs, *sweeps]):
        try:
            store.add_artifacts(run, folder, f"{COMPARISONS}/{folder.name}")
        except UserError as error:
            not_logged = f"{i} of {len(runs) + len(sweeps)} runs have it in MLflow, since {error}"
            break
    return ComparisonResult(
        comparison=comparison, folder=folder, tracking_uri=store.uri, not_logged=not_logged
    )


def _new_folder(name: str, output_dir: Path) -> Path:
    """Where the results go; not made yet."""
    problem = id_problem(name)
    if problem or name in (".", "..") or "/" in name or "\\" in name:
        raise UserError(
            f"name {name!r} is no name of a folder{f': it {problem}' if problem else ''}; choose "
            "another --name"
        )
    folder = output_dir / COMPARISONS / name
    if folder.exists():
        raise UserError(
            f"name {name!r} is used already, in {folder}; choose another --name or leave it out"
        )
    return folder


def _write(comparison: Comparison, folder: Path, made_at: datetime) -> None:
    from xpool_platform.compare.page import numbers_of, page_of  # noqa: PLC0415  # matplotlib

    page = page_of(comparison, made_at=made_at)
    numbers = json.dumps(numbers_of(comparison, made_at=made_at), indent=1)
    try:
        folder.mkdir(parents=True)
        (folder / PAGE).write_text(page, encoding="utf-8")
        (folder / NUMBERS).write_text(numbers + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written to ({error.strerror}); set --output-dir to a folder that "
            "can, and --tracking.uri to where the runs were recorded"
        ) from error
