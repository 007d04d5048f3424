"""A comparison as one HTML page that needs nothing else, and as JSON."""

import base64
import io
from dataclasses import asdict
from datetime import datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from xpool_platform.compare.comparison import DECISIVE, SIGNIFICANT, Comparison
from xpool_platform.compare.tables import conclusions, tables_of
from xpool_platform.tracking.figures.comparison import Estimate, forest_figure

TEMPLATE = "page.html.j2"
SHOWN = (("t2v/R1", "text to video"), ("v2t/R1", "video to text"))
CHANCE, REAL = f"p ≥ {SIGNIFICANT}", f"p < {SIGNIFICANT}, uncorrected"
DPI = 110


def page_of(comparison: Comparison, *, made_at: datetime) -> str:
    """The page: conclusions, tables, figures. Names and values are other people's: escaped."""
    environment = Environment(
        loader=PackageLoader("xpool_platform.compare", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(
        comparison=comparison,
        conclusions=conclusions(comparison),
        tables=tables_of(comparison, short_names=False),
        figures=[(alt, _data_uri(figure)) for alt, figure in figures_of(comparison)],
        made_at=f"{made_at:%Y-%m-%d %H:%M}",
    )


def figures_of(comparison: Comparison) -> list[tuple[str, Figure]]:
    """R@1 of both directions, of the runs and of what they are apart from the baseline."""
    names = [f"{i} {run.shown}" for i, run in enumerate(comparison.runs, start=1)]
    split = comparison.runs[0].report.split
    recalls = forest_figure(
        names,
        [(words, _recalls(comparison, key)) for key, words in SHOWN],
        title=f"R@1 on {split}, 95 % bootstrap intervals",
        unit="R@1 in %",
        kinds=("run", "baseline"),
        at_zero=False,
    )
    apart = forest_figure(
        names[1:],
        [(words, _differences(comparison, key)) for key, words in SHOWN],
        title=f"R@1 on {split} minus that of run 1, 95 % paired bootstrap intervals",
        unit="difference in percentage points",
        kinds=(CHANCE, REAL),
        at_zero=True,
    )
    return [("R@1 of the runs", recalls), ("R@1 minus that of run 1", apart)]


def numbers_of(comparison: Comparison, *, made_at: datetime) -> dict[str, Any]:
    """All of a comparison, for JSON."""
    runs = comparison.runs
    return {
        "name": comparison.name,
        "made_at": made_at.isoformat(timespec="seconds"),
        "baseline": runs[0].run_id,
        "num_resamples": comparison.num_resamples,
        "runs": [
            {
                "run_id": run.run_id,
                "name": run.name,
                "experiment": run.experiment,
                "status": run.status,
                **asdict(run.report),
            }
            for run in runs
        ],
        "differing": {
            name: {run.run_id: value for run, value in zip(runs, values, strict=True)}
            for name, values in comparison.facts.items()
        },
        "differences": {
            run.run_id: {key: asdict(each) for key, each in found.items()}
            for run, found in zip(runs[1:], comparison.differences, strict=True)
        },
        "corrected_p_values": {
            DECISIVE: {run.run_id: p for run, p in zip(runs[1:], comparison.corrected, strict=True)}
        },
        "pairwise": None
        if comparison.pairwise is None
        else {
            "metric": DECISIVE,
            "runs": [run.run_id for run in runs],
            **asdict(comparison.pairwise),
        },
        "warnings": comparison.warnings,
    }


def _recalls(comparison: Comparison, key: str) -> list[Estimate]:
    estimates = []
    for i, run in enumerate(comparison.runs):
        low, high = run.report.intervals[key]
        kind = "run" if i else "baseline"
        estimates.append(Estimate(value=run.report.metrics[key], low=low, high=high, kind=kind))
    return estimates


def _differences(comparison: Comparison, key: str) -> list[Estimate]:
    found = [of_run[key] for of_run in comparison.differences]
    return [
        Estimate(
            value=each.difference,
            low=each.low,
            high=each.high,
            kind=REAL if each.p_value < SIGNIFICANT else CHANCE,
        )
        for each in found
    ]


def _data_uri(figure: Figure) -> str:
    image = io.BytesIO()
    figure.savefig(image, dpi=DPI, format="png")
    return "data:image/png;base64," + base64.b64encode(image.getvalue()).decode()
