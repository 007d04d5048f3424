"""The comparison itself: every run against a baseline, and all pairs, on the same queries."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

from xpool.bootstrap import PairedDifference, paired_differences, resampled_metrics
from xpool.metrics import RetrievalRanks
from xpool_platform.compare.compared_run import ComparedRun
from xpool_platform.compare.differing import differing
from xpool_platform.errors import UserError
from xpool_platform.result_files import OtherQueriesError, ranks_in_order

DECISIVE = "t2v/R1"
"""The metric by which runs are told apart."""

SIGNIFICANT = 0.05
MAX_PAIRED_RUNS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class PairwiseTests:
    """Every pair of runs in the decisive metric: [run][other], None on the diagonal."""

    p_values: list[list[float | None]]
    corrected: list[list[float | None]]
    """After Holm and Bonferroni, over all pairs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What differs between runs. The first run is the baseline."""

    name: str
    runs: list[ComparedRun]
    facts: dict[str, list[str | None]]
    """Parameters, tags and data that are not the same in all runs: the value of each run."""

    differences: list[dict[str, PairedDifference]]
    """By metric, each run but the first minus the first."""

    corrected: list[float]
    """Their p-values in the decisive metric after Holm and Bonferroni, over the runs."""

    pairwise: PairwiseTests | None
    """None for two runs, of which all is said, and for more than MAX_PAIRED_RUNS."""

    num_resamples: int
    warnings: list[str]


def compare(
    runs: Sequence[ComparedRun],
    *,
    name: str,
    num_resamples: int,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Comparison:
    """Compare runs with the first, the baseline, by the paired bootstrap of `evaluate --against`.

    Raises UserError if they do not rank the same queries.
    """
    ranks = _aligned(runs)
    drawn = []
    for i, of_run in enumerate(ranks):
        progress(i, len(ranks))
        drawn.append(resampled_metrics(of_run, num_resamples=num_resamples))
    progress(len(ranks), len(ranks))
    differences = [paired_differences(each, drawn[0]) for each in drawn[1:]]
    pairwise = None
    if 2 < len(runs) <= MAX_PAIRED_RUNS:
        pairs = list(combinations(range(len(runs)), 2))
        found = [paired_differences(drawn[j], drawn[i])[DECISIVE].p_value for i, j in pairs]
        pairwise = PairwiseTests(
            p_values=_matrix(len(runs), pairs, found),
            corrected=_matrix(len(runs), pairs, holm(found)),
        )
    return Comparison(
        name=name,
        runs=list(runs),
        facts=differing([run.facts for run in runs]),
        differences=differences,
        corrected=holm([each[DECISIVE].p_value for each in differences]),
        pairwise=pairwise,
        num_resamples=num_resamples,
        warnings=_warnings(runs),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several tests, corrected so that the chance of any false alarm stays theirs.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for place, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[i]))
        corrected[i] = largest
    return corrected


def _aligned(runs: Sequence[ComparedRun]) -> list[RetrievalRanks]:
    """The ranks of the runs, in the order of the queries of the first."""
    first = runs[0]
    ranks = []
    for run in runs:
        try:
            ranks.append(ranks_in_order(run.queries, first.queries))
        except OtherQueriesError as error:
            raise UserError(
                f"runs {run.shown} and {first.shown} do not rank the same queries and cannot be "
                f"compared: the one has {_counts(run)}, the other {_counts(first)}, and {error}; "
                "evaluate both on the same split of the same data by jobs/evaluate.py, and compare "
                "the evaluations"
            ) from error
    return ranks


def _counts(run: ComparedRun) -> str:
    report = run.report
    missing = f" with {report.num_missing} videos missing" if report.num_missing else ""
    return (
        f"{report.num_captions} captions and {report.num_videos} videos of split "
        f"{report.split!r}{missing}"
    )


def _matrix(
    size: int, pairs: Sequence[tuple[int, int]], values: Sequence[float]
) -> list[list[float | None]]:
    matrix: list[list[float | None]] = [[None] * size for _ in range(size)]
    for (i, j), value in zip(pairs, values, strict=True):
        matrix[i][j] = matrix[j][i] = value
    return matrix


def _warnings(runs: Sequence[ComparedRun]) -> list[str]:
    """What a reader of the figures has to know."""
    warnings = []
    split = runs[0].report.split
    chosen = [run.shown for run in runs if run.selected_on_itself]
    if chosen:
        warnings.append(
            f"{_listed(chosen, runs)} chose the checkpoint on the {split} split, the one compared "
            "here: these figures are better than those of new videos would be"
        )
    warnings += [
        f"{run.shown} was evaluated without {run.report.num_missing} videos of the {split} split, "
        "which could not be decoded"
        for run in runs
        if run.report.num_missing
    ]
    unfinished = [f"{run.shown} ({run.status})" for run in runs if run.status != "FINISHED"]
    if unfinished:
        warnings.append(
            f"{_listed(unfinished, runs)} did not finish: what is compared is an evaluation of a "
            "checkpoint on the way"
        )
    return warnings


def _listed(names: Sequence[str], runs: Sequence[ComparedRun]) -> str:
    if len(names) == len(runs):
        return "every run"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
