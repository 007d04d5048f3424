"""What is kept of a model's results on a split: files, tables and figures, with its run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from xpool.model import XPool
from xpool_platform.config import ExperimentConfig
from xpool_platform.evaluate.encode import SplitEmbeds
from xpool_platform.evaluate.failures import failures_table
from xpool_platform.evaluate.measure import PLAIN, Measured
from xpool_platform.evaluate.run_figures import run_figures
from xpool_platform.report import RetrievalReport
from xpool_platform.result_files import FAILURES, write_results
from xpool_platform.tracking.journal import metric_history
from xpool_platform.tracking.tracker import Tracker

PROGRESS = "progress/"
"""Stands before the evaluations in a training where they are of the split that is reported."""

MAX_SHOWN_FAILURES = 1000
RESULTS_TABLE, FAILURES_TABLE = "results.json", "failures.json"


def record_results(
    measured: Measured,
    *,
    model: XPool,
    videos: pa.Table,
    embeds: SplitEmbeds,
    config: ExperimentConfig,
    summary: Mapping[str, Any],
    history: Mapping[str, Sequence[tuple[int, float]]],
    tracker: Tracker,
    run_dir: Path,
    scores: bool = False,
    files_in: str = "",
    figures_in: str = "",
) -> None:
    """Write the results, failures and figures into run_dir and log them.

    `videos` are those that the embeddings are of, `history` is what the training logged. The
    artifacts go to the folders `files_in` and `figures_in`.
    """
    kept = measured.scores if scores else None
    paths = write_results(run_dir, summary, measured.table, kept)
    texts = [text for captions in videos["captions"].to_pylist() for text in captions]
    ids = videos["video_id"].to_pylist()
    failures = failures_table(measured.ranks[PLAIN], measured.scores, ids, texts)
    pq.write_table(failures, run_dir / FAILURES)
    for path in (*paths, run_dir / FAILURES):
        tracker.log_artifact(path, files_in)
    if not figures_in:
        tracker.log_table(_results_columns(measured.report), RESULTS_TABLE)
        tracker.log_table(_failure_columns(failures), FAILURES_TABLE)
    figures = run_figures(model.pooling, videos, embeds, measured, config=config, history=history)
    for name, figure in figures.items():
        tracker.log_figure(figure, f"{name}.png", figures_in)


def training_history(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """What the training in this folder logged, its evaluations by their split's own names."""
    logged = metric_history(run_dir)
    evaluated = {
        key.removeprefix(PROGRESS): logged[key] for key in logged if key.startswith(PROGRESS)
    }
    return logged | evaluated


def _results_columns(report: RetrievalReport) -> dict[str, list[Any]]:
    keys = list(report.metrics)
    return {
        "metric": [f"{report.split}/{key}" for key in keys],
        "value": [round(report.metrics[key], 3) for key in keys],
        "low": [round(report.intervals[key][0], 3) for key in keys],
        "high": [round(report.intervals[key][1], 3) for key in keys],
        "chance": [round(report.chance[key], 3) for key in keys],
    }


def _failure_columns(failures: pa.Table) -> dict[str, list[Any]]:
    rows = failures.slice(0, MAX_SHOWN_FAILURES).to_pylist()
    return {
        "rank": [row["rank"] for row in rows],
        "direction": [row["direction"] for row in rows],
        "video_id": [row["video_id"] for row in rows],
        "caption": [row["caption"] or "" for row in rows],
        "beaten_by": [
            ", ".join(each["caption"] or each["video_id"] for each in row["beaten_by"][:3])
            for row in rows
        ],
    }
