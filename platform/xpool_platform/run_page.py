"""The page of a run that is over: its note in MLflow, and a report that can be mailed."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from xpool_platform.config import ExperimentConfig
from xpool_platform.config_io import flatten
from xpool_platform.data.decode import BadVideo
from xpool_platform.data.summary import split_summary
from xpool_platform.report import RetrievalReport
from xpool_platform.result_files import FAILURES
from xpool_platform.run_note import NOTE, run_note
from xpool_platform.run_record import git_tags
from xpool_platform.tracking.figures.notes import NOTES
from xpool_platform.tracking.html_report import html_report
from xpool_platform.tracking.journal_tracker import FIGURES
from xpool_platform.tracking.tracker import Tracker

PAGE = "report.html"


def record_page(
    report: RetrievalReport,
    *,
    config: ExperimentConfig,
    command: str,
    videos: pa.Table,
    bad: Sequence[BadVideo],
    run_dir: Path,
    tracker: Tracker,
    folder: str = "",
) -> None:
    """Write report.html from what lies in run_dir, and log it below `folder`.

    A run's own page, `folder` empty, gets the note as well. `videos` are the decoded ones, of all
    splits that were used, and `command` repeats the run.
    """
    git = git_tags()
    if not folder:
        tracker.set_tags({NOTE: run_note(report, command=command, git=git, bad=bad)})
    figures = {name: run_dir / FIGURES / f"{name}.png" for name in NOTES}
    failures = run_dir / FAILURES
    page = html_report(
        name=run_dir.name,
        experiment=config.name,
        when=datetime.now(),
        command=command,
        git_commit=git.get("git.commit", ""),
        git_clean=git["git.clean"] == "true" if git else None,
        report=report,
        data=[asdict(each) for each in split_summary(videos)],
        missing=[asdict(each) for each in bad],
        figures={name: path.read_bytes() for name, path in figures.items() if path.is_file()},
        failures=pq.read_table(failures) if failures.is_file() else None,
        config=flatten(config),
    )
    path = run_dir / PAGE
    path.write_text(page, encoding="utf-8")
    tracker.log_artifact(path, folder)
