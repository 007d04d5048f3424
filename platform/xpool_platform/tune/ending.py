"""The end of a sweep: every trial's run ended, the best ones told, the winner tested once."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from xpool_platform.checkpoint_files import find_checkpoint
from xpool_platform.config import EvaluationConfig
from xpool_platform.config_io import as_kind
from xpool_platform.console import Console
from xpool_platform.errors import UserError
from xpool_platform.evaluate.evaluation import evaluate
from xpool_platform.report import RetrievalReport
from xpool_platform.sweep_config import SweepConfig
from xpool_platform.tracking.sweep_figures import sweep_figures
from xpool_platform.tracking.tracker import Tracker
from xpool_platform.train_config import Split
from xpool_platform.tune.importance import importances
from xpool_platform.tune.space import Space, with_values
from xpool_platform.tune.sweep_files import RESULT
from xpool_platform.tune.trial import Sweep
from xpool_platform.tune.trial_record import TrialRecord, TrialRecords

if TYPE_CHECKING:
    from xpool_platform.tracking.mlflow_tracker import MlflowStore

NUM_BEST = 5
TABLE = "trials.csv"
BEST = "checkpoints/best"


def end_sweep(
    sweep: Sweep,
    *,
    config: SweepConfig,
    manifest: pa.Table,
    space: Space,
    store: "MlflowStore",
    tracker: Tracker,
    console: Console,
) -> tuple[list[TrialRecord], RetrievalReport]:
    """The best trials, with intervals, and the winner's report on the split that is reported.

    Raises UserError if no trial was evaluated.
    """
    records = TrialRecords(Path(sweep.records))
    for record in records.all():
        _end_run(record, store)
    best = ranked(records.all(), sweep.metric)[:NUM_BEST]
    if not best:
        raise UserError("no trial was evaluated; look at the reasons of those that failed")
    best = [
        _with_intervals(
            each, sweep=sweep, manifest=manifest, records=records, store=store, console=console
        )
        for each in best
    ]
    winner = best[0]
    folder = Path(sweep.records).parent
    evaluated = evaluate(
        _evaluation(sweep, winner, config.eval.split),
        manifest,
        run_dir=folder,
        tracker=tracker,
        prefix="best/",
        selected_on=config.train.select_on,
        console=console,
    )
    _record(records.all(), winner, sweep=sweep, space=space, folder=folder, tracker=tracker)
    if config.register:
        store.register(config.register, tracker.run_id, BEST)
    result = {"best": [asdict(each) for each in best], "report": asdict(evaluated.report)}
    (folder / RESULT).write_text(json.dumps(result, indent=1), encoding="utf-8")
    tracker.log_artifact(folder / RESULT)
    return best, evaluated.report


def ranked(records: Sequence[TrialRecord], metric: str) -> list[TrialRecord]:
    """Trials that did not fail, the best first; of equal ones the first."""
    scores = {
        record.index: score
        for record in records
        if record.status != "FAILED" and (score := record.best(metric)) is not None
    }
    known = [record for record in records if record.index in scores]
    return sorted(known, key=lambda record: (-scores[record.index], record.index))


def rows_of(best: Sequence[TrialRecord], fields: Sequence[str], metric: str) -> list[list[str]]:
    """The best trials for a table: name, values, metric with its interval, how it ended."""
    rows = []
    for trial in best:
        low, high = trial.intervals[metric.split("/", 1)[1]]
        values = [trial.values[field] for field in fields]
        cells = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in values]
        early = f"early, after step {trial.evaluations[-1].step}"
        ended = "" if trial.status == "FINISHED" else early
        score = f"{trial.best(metric):.1f}\n{low:.1f}–{high:.1f}"
        rows.append([trial.name, *cells, score, ended])
    return rows


def retraining_command(sweep: Sweep, winner: TrialRecord) -> str:
    """The command that trains with the winner's values, and reports on the experiment's split."""
    options = [
        f"--{name.replace('_', '-')} {shlex.quote(str(value))}"
        for name, value in winner.values.items()
    ]
    return " ".join(["python jobs/train.py", sweep.config.name, *options])


def _end_run(record: TrialRecord, store: "MlflowStore") -> None:
    """A trial's run in MLflow as its record says it ended, however its process did."""
    if not record.run_id:
        return
    tracker = store.open_run(record.run_id)
    if record.status == "STOPPED":
        last = record.evaluations[-1].step if record.evaluations else 0
        tracker.set_tags({"stopped_early": f"by the scheduler after step {last}"})
    tracker.finish("FAILED" if record.status == "FAILED" else "FINISHED")


def _with_intervals(
    record: TrialRecord,
    *,
    sweep: Sweep,
    manifest: pa.Table,
    records: TrialRecords,
    store: "MlflowStore",
    console: Console,
) -> TrialRecord:
    """A trial that was ended early has not measured them."""
    if record.intervals:
        return record
    evaluated = evaluate(
        _evaluation(sweep, record, sweep.config.eval.split),
        manifest,
        run_dir=Path(sweep.runs, record.name),
        tracker=store.open_run(record.run_id),
        prefix="best/",
        selected_on=sweep.config.train.select_on,
        console=console,
    )
    known = replace(record, intervals=dict(evaluated.report.intervals))
    records.write(known)
    return known


def _evaluation(sweep: Sweep, record: TrialRecord, split: Split) -> EvaluationConfig:
    config = with_values(sweep.config, record.values)
    checkpoint = find_checkpoint(record.name, Path(config.output_dir))
    return as_kind(
        replace(config, eval=replace(config.eval, split=split)),
        EvaluationConfig,
        checkpoint=str(checkpoint),
    )


def _record(
    records: Sequence[TrialRecord],
    winner: TrialRecord,
    *,
    sweep: Sweep,
    space: Space,
    folder: Path,
    tracker: Tracker,
) -> None:
    """The trials as a table and as figures, and the winner, with the sweep's run."""
    columns = [*space, sweep.metric]
    lines = [",".join(["trial", "status", "step", *columns])]
    for record in records:
        values = [str(record.values.get(name, "")) for name in space]
        score = record.best(sweep.metric)
        step = str(record.evaluations[-1].step) if record.evaluations else ""
        cells = [record.name, record.status, step, *values, "" if score is None else f"{score:.4f}"]
        lines.append(",".join(cells))
    (folder / TABLE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    tracker.log_artifact(folder / TABLE)
    mattered = importances(records, space, sweep.metric)
    for name, figure in sweep_figures(records, list(space), sweep.metric, mattered).items():
        tracker.log_figure(figure, f"{name}.png")
    best = winner.best(sweep.metric)
    assert best is not None
    tracker.log_metrics({0: {f"best/{sweep.metric}": best}})
    tracker.log_params({f"best.{name}": value for name, value in winner.values.items()})
    tracker.set_tags({"best.trial": winner.name, "retrain": retraining_command(sweep, winner)})
    checkpoint = find_checkpoint(winner.name, Path(sweep.config.output_dir))
    tracker.log_artifact(checkpoint, BEST)
