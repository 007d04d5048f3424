"""A run as one HTML page that can be mailed: no script, nothing from another address."""

import base64
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from itertools import islice
from typing import Any

import pyarrow as pa
from jinja2 import Environment, StrictUndefined

from xpool.metrics import METRICS
from xpool_platform.report import DIRECTIONS, METHODS, TITLES, RetrievalReport
from xpool_platform.tracking.figures.notes import NOTES

TEMPLATE = "report.html.j2"
MAX_FAILURES = 30
MAX_MISSING = 200
COMPETITORS_SHOWN = 3


def html_report(
    *,
    name: str,
    experiment: str,
    when: datetime,
    command: str,
    git_commit: str,
    git_clean: bool | None,
    report: RetrievalReport,
    data: Sequence[Mapping[str, Any]],
    missing: Sequence[Mapping[str, Any]],
    figures: Mapping[str, bytes],
    failures: pa.Table | None,
    config: Mapping[str, Any],
) -> str:
    """The page.

    `data` are rows as those of `data.summary.SplitSummary`, `missing` as those of
    `data.decode.BadVideo`, `figures` PNG files by their names in `figures.notes`, `failures` a
    table as `evaluate.failures.FAILURES_SCHEMA`, `config` the flattened config. An empty
    `git_commit` is one that is not known.
    """
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    return environment.from_string(template_source()).render(
        name=name,
        experiment=experiment,
        when=f"{when:%Y-%m-%d %H:%M}",
        command=command,
        git_commit=git_commit,
        git_clean=git_clean,
        report=report,
        headings=[TITLES[metric] for metric in METRICS],
        results=[_direction_rows(report, direction) for direction in DIRECTIONS],
        data=data,
        missing=list(islice(missing, MAX_MISSING)),
        num_missing_rows=len(missing),
        figures=[
            {"name": key, "note": NOTES.get(key, ""), "png": base64.b64encode(png).decode()}
            for key, png in figures.items()
        ],
        num_failures=None if failures is None else len(failures),
        failures=[] if failures is None else _failure_rows(failures),
        config=config,
    )


def template_source() -> str:
    """The template, which lies beside this module wherever the package is."""
    return files(__package__ or "").joinpath(TEMPLATE).read_text(encoding="utf-8")


def _direction_rows(report: RetrievalReport, direction: str) -> dict[str, Any]:
    """The rows of one direction: the plain scores, each after-processing, chance."""
    rows = [{"name": "", "cells": _cells(report.metrics, report.intervals, direction)}]
    for method, shown in METHODS.items():
        prefix = f"{method}/{direction}"
        if f"{prefix}/R1" in report.processed_metrics:
            cells = _cells(report.processed_metrics, report.processed_intervals, prefix)
            rows.append({"name": shown, "cells": cells})
    rows.append({"name": "chance", "cells": _cells(report.chance, {}, direction)})
    return {"name": DIRECTIONS[direction], "rows": rows}


def _cells(
    metrics: Mapping[str, float], intervals: Mapping[str, tuple[float, float]], prefix: str
) -> list[dict[str, str]]:
    cells = []
    for metric in METRICS:
        key = f"{prefix}/{metric}"
        low_high = "{:.1f}–{:.1f}".format(*intervals[key]) if key in intervals else ""
        cells.append({"value": f"{metrics[key]:.1f}", "interval": low_high})
    return cells


def _failure_rows(failures: pa.Table) -> list[dict[str, Any]]:
    rows = failures.slice(0, MAX_FAILURES).to_pylist()
    return [row | {"beaten_by": row["beaten_by"][:COMPETITORS_SHOWN]} for row in rows]
