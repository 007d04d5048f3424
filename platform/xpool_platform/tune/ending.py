"""The end of a sweep: every trial's run ended, the best ones told, the winner tested once."""

import csv
import json
import shlex
import sys
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
from xpool_platform.result_files import RANKS
from xpool_platform.run_model import run_model
from xpool_platform.run_note import NOTE, run_note
from xpool_platform.run_record import git_tags
from xpool_platform.sweep_config import SweepConfig, is_rank
from xpool_platform.tracking.figures.sweep import sweep_figures
from xpool_platform.tracking.journal import last_status
from xpool_platform.tracking.tracker import Tracker
from xpool_platform.tune.importance import importances
from xpool_platform.tune.ranking import Ranking
from xpool_platform.tune.space import Space, with_values
from xpool_platform.tune.sweep_files import RESULT
from xpool_platform.tune.trial import Sweep
from xpool_platform.tune.trial_record import TrialRecord, TrialRecords

if TYPE_CHECKING:
    from xpool_platform.tracking.mlflow_store import MlflowStore

NUM_BEST = 5
TABLE = "trials.csv"
ENDS = ("low", "high")


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
    """The best trials, and the winner's report on the split that is reported.

    Raises UserError if no trial was evaluated.
    """
    ranking = Ranking.of(config)
    records = TrialRecords(Path(sweep.records)).all()
    for record in records:
        _end_run(record, ranking, Path(sweep.runs, record.name), store, console)
    best = ranking.ranked(records)[:NUM_BEST]
    if not best:
        raise UserError("no trial was evaluated; look at the reasons of those that failed")
    folder = Path(sweep.records).parent
    command = f"python {shlex.join(sys.argv)}"
    evaluated = evaluate(
        _tested(sweep, best[0], config),
        manifest,
        run_dir=folder,
        tracker=tracker,
        prefix="best/",
        command=command,
        selected_on=config.train.select_on,
        console=console,
        decoded=sweep.decoded,
    )
    _record_trials(records, ranking, space=space, folder=folder, tracker=tracker)
    checkpoint = find_checkpoint(best[0].name, Path(config.output_dir))
    _record_winner(best[0], ranking, checkpoint, tracker=tracker)
    model = run_model(
        with_values(sweep.config, best[0].values),
        evaluated.report,
        sweep.decoded.of_split(config.eval.split).videos,
        checkpoint=checkpoint,
        params=best[0].values,
        prefix="best/",
    )
    tracker.log_model(model)
    note = run_note(
        evaluated.report,
        command=command,
        git=git_tags(),
        bad=sweep.decoded.bad,
        more=_best_in_markdown(best, list(space), ranking, num_trials=len(records)),
    )
    tracker.set_tags({NOTE: note})
    if config.register:
        tracker.register(config.register, f"evaluations/{folder.name}/{RANKS}")
    result = {"best": [asdict(each) for each in best], "report": asdict(evaluated.report)}
    (folder / RESULT).write_text(json.dumps(result, indent=1), encoding="utf-8")
    tracker.log_artifact(folder / RESULT)
    return best, evaluated.report


def rows_of(
    best: Sequence[TrialRecord], fields: Sequence[str], ranking: Ranking
) -> list[list[str]]:
    """The best trials for a table: name, values, metrics with intervals, how each ended."""
    front = {record.name for record in ranking.front(best)} if len(ranking.metrics) > 1 else set()
    rows = []
    for trial in best:
        chosen = ranking.chosen(trial)
        assert chosen is not None
        values = [trial.values[field] for field in fields]
        cells = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in values]
        scores = [
            f"{chosen.metrics[name]:.1f}\n"
            f"{chosen.metrics[f'{name}_low']:.1f}–{chosen.metrics[f'{name}_high']:.1f}"
            for name in ranking.metrics
        ]
        last = trial.evaluations[-1].step
        ended = "" if trial.status == "FINISHED" else f"early\nstep {last}"
        marks = "not bettered" if trial.name in front else ""
        name = trial.name.rsplit("-", 1)[-1]
        rows.append([name, *cells, *scores, "\n".join(filter(None, (ended, marks)))])
    return rows


def _best_in_markdown(
    best: Sequence[TrialRecord], fields: Sequence[str], ranking: Ranking, *, num_trials: int
) -> str:
    header = ["trial", *fields, *ranking.metrics, "ended"]
    rows = [header, ["---"] * len(header), *rows_of(best, fields, ranking)]
    cells = [[cell.replace("\n", " ") for cell in row] for row in rows]
    table = "\n".join(f"| {' | '.join(row)} |" for row in cells)
    return (
        f"That is the test of `{best[0].name}`, the best of {num_trials} trials by "
        f"{ranking.metric}. The best:\n\n{table}"
    )


def _end_run(
    record: TrialRecord, ranking: Ranking, run_dir: Path, store: "MlflowStore", console: Console
) -> None:
    """A trial's run in MLflow as its record says it ended, however its process did."""
    if not record.run_id:
        return
    tracker = store.open_run(record.run_id, run_dir, console.line)
    tags = {"trial.ended": record.status.lower()}
    if record.status == "STOPPED":
        last = record.evaluations[-1].step if record.evaluations else 0
        tags["stopped_early"] = f"by the scheduler after step {last}"
    tracker.set_tags(tags)
    value = ranking.value(record)
    chosen = ranking.chosen(record)
    if value is not None and chosen is not None:  # one figure for each, for MLflow's compare view
        ends = {f"trial/best_{end}": chosen.metrics[f"{ranking.metric}_{end}"] for end in ENDS}
        tracker.log_metrics({0: {"trial/best": value, **ends}})
    said = last_status(run_dir)
    ended_ms = said[1] if said is not None and said[0] != "RUNNING" else None
    tracker.set_status("FAILED" if record.status == "FAILED" else "FINISHED", ended_ms)
    tracker.close()


def _tested(sweep: Sweep, record: TrialRecord, config: SweepConfig) -> EvaluationConfig:
    of_trial = with_values(sweep.config, record.values)
    checkpoint = find_checkpoint(record.name, Path(of_trial.output_dir))
    return as_kind(replace(of_trial, eval=config.eval), EvaluationConfig, checkpoint=checkpoint)


def _record_trials(
    records: Sequence[TrialRecord],
    ranking: Ranking,
    *,
    space: Space,
    folder: Path,
    tracker: Tracker,
) -> None:
    """The trials as a table and as figures, with the sweep's run."""
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        ends = [f"{name}{end}" for name in ranking.metrics for end in ("", "_low", "_high")]
        writer.writerow(["trial", "status", "last_step", *space, *ends, "reason"])
        for record in records:
            chosen = ranking.chosen(record)
            last = record.evaluations[-1].step if record.evaluations else ""
            values = [record.values.get(name, "") for name in space]
            shown = ["" if chosen is None else chosen.metrics[end] for end in ends]
            writer.writerow([record.name, record.status, last, *values, *shown, record.reason])
    tracker.log_artifact(folder / TABLE)
    known = ranking.ranked(records)
    scored = [(record, score) for record in known if (score := ranking.value(record)) is not None]
    worse = is_rank(ranking.metric)
    mattered = importances([(each, -score if worse else score) for each, score in scored], space)
    of_chosen = [each.metrics for record in known if (each := ranking.chosen(record)) is not None]
    ends = [f"{ranking.metric}_{end}" for end in ENDS]
    intervals = [(metrics[ends[0]], metrics[ends[1]]) for metrics in of_chosen]
    figures = sweep_figures(
        scored,
        list(space),
        ranking.metric,
        mattered,
        intervals=intervals,
        less_is_better=worse,
    )
    for name, figure in figures.items():
        tracker.log_figure(figure, f"{name}.png")


def _record_winner(
    winner: TrialRecord, ranking: Ranking, checkpoint: str, *, tracker: Tracker
) -> None:
    chosen = ranking.chosen(winner)
    assert chosen is not None
    tracker.log_metrics({0: {f"best/{name}": value for name, value in chosen.metrics.items()}})
    tracker.log_params({f"best.{name}": value for name, value in winner.values.items()})
    tracker.set_tags({"best.trial": winner.name, "best.run_id": winner.run_id})
    tracker.log_checkpoint(checkpoint, "best")
