"""From what a user names to runs with the evaluation that is compared."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xpool_platform.compare.compared_run import ComparedRun, read_report
from xpool_platform.compare.config import ComparisonConfig
from xpool_platform.compare.differing import facts_of
from xpool_platform.console import Console
from xpool_platform.data.plain_text import named
from xpool_platform.errors import UserError
from xpool_platform.result_files import METRICS, RANKS, read_ranked_queries

if TYPE_CHECKING:
    from xpool_platform.tracking.recorded_runs import RecordedRun, RecordedRuns


def chosen_runs(
    config: ComparisonConfig, store: "RecordedRuns", console: Console
) -> tuple[list["RecordedRun"], list["RecordedRun"]]:
    """The runs to compare, the baseline first and each once; and the sweeps among those named.

    Of a sweep the trials without a report are left out, and the console says so. Raises UserError
    if fewer than two runs are left.
    """
    sweeps: list[RecordedRun] = []
    runs: dict[str, RecordedRun] = {}
    for text in config.runs:
        run = store.find(text)
        trials = store.below(run)
        if not trials:
            runs.setdefault(run.run_id, run)
            continue
        sweeps.append(run)
        for trial in _with_report(run, trials, store, console):
            runs.setdefault(trial.run_id, trial)
    if config.baseline:
        baseline = store.find(config.baseline)
        if store.below(baseline):
            raise UserError(
                f"baseline {config.baseline!r} is a sweep; give one of its trials, or another run"
            )
        runs = {baseline.run_id: baseline} | runs
    if len(runs) < 2:
        what = f"only run {next(iter(runs.values())).name!r} is" if runs else "no run is"
        raise UserError(
            f"{what} left to compare; give two runs or more, by name or id, or a sweep of which "
            "two trials or more have a report"
        )
    return list(runs.values()), sweeps


def with_results(
    runs: Sequence["RecordedRun"], split: str, store: "RecordedRuns"
) -> list[ComparedRun]:
    """The runs with their report and ranks. Raises UserError for a run that has none."""
    with tempfile.TemporaryDirectory() as folder:
        return [_with_result(run, split, store, Path(folder, run.run_id)) for run in runs]


def _with_report(
    sweep: "RecordedRun",
    trials: Sequence["RecordedRun"],
    store: "RecordedRuns",
    console: Console,
) -> list["RecordedRun"]:
    has = {trial.run_id: bool(store.result_folders(trial)) for trial in trials}
    left_out = [named(trial.name) for trial in trials if not has[trial.run_id]]
    console.line(
        f"{sweep.name!r} is a sweep of {len(trials)} trials; compared are "
        f"{len(trials) - len(left_out)} of them"
        + (f", without those that have no report: {', '.join(left_out)}" if left_out else "")
    )
    return [trial for trial in trials if has[trial.run_id]]


def _with_result(
    run: "RecordedRun", split: str, store: "RecordedRuns", target: Path
) -> ComparedRun:
    folders = store.result_folders(run)
    if not folders:
        raise UserError(f"run {run.name!r} {_why_not(run)}")
    own = not folders[0] and not split
    reports = {
        place: read_report(store.fetch(run, _join(place, METRICS), _made(target, i)), run.name)
        for i, place in enumerate(folders[:1] if own else folders)
    }
    fitting = [place for place, report in reports.items() if split in ("", report.split)]
    if not fitting:
        raise UserError(
            f"run {run.name!r} has no evaluation on split {split!r}; make one by "
            f"jobs/evaluate.py --checkpoint {run.name} --eval.split {split}"
        )
    if fitting[0] and len(fitting) > 1:
        which = ", ".join(f"{place} on {reports[place].split}" for place in fitting)
        raise UserError(
            f"run {run.name!r} has no report of its own and {len(fitting)} evaluations ({which}); "
            "choose one by --split, or evaluate the run without --into-training-run"
        )
    ranks = store.fetch(run, _join(fitting[0], RANKS), _made(target, len(folders)))
    return ComparedRun(
        run_id=run.run_id,
        name=run.name,
        experiment=run.experiment,
        status=run.status,
        facts=facts_of(run.params, run.tags, run.datasets),
        report=reports[fitting[0]],
        queries=read_ranked_queries(ranks, f"run {run.name!r}: "),
    )


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _made(target: Path, place: int) -> Path:
    folder = target / str(place)
    folder.mkdir(parents=True)
    return folder


def _why_not(run: "RecordedRun") -> str:
    if run.status in ("RUNNING", "SCHEDULED"):
        return (
            f"has no {RANKS}: it is still running, or was lost; wait for its end, or go on with it "
            "by --resume"
        )
    if run.status != "FINISHED":
        return (
            f"has no {RANKS}: it ended as {run.status} before its report; go on with it by "
            "--resume, or evaluate its checkpoint by jobs/evaluate.py and compare the evaluation"
        )
    return (
        f"has no {RANKS} among its artifacts, as the runs of jobs/train.py and jobs/evaluate.py "
        "have; evaluate it by jobs/evaluate.py and compare the evaluation"
    )
