"""Compare runs on the same queries: python jobs/compare.py RUN RUN [...]

A run is its name or id, of a training or an evaluation; a sweep stands for its trials. The first is
the baseline. Shown are the parameters that differ, the metrics with intervals, and by a paired
bootstrap test whether each run differs from the baseline by more than the choice of test videos
explains. The page and all numbers go to comparisons/NAME in the output folder, and onto the runs
in MLflow.
"""

import sys

import source_roots  # first: it puts the packages below on the path
from command_line import parse_options, run_job
from xpool_platform.compare.config import ComparisonConfig


def main() -> None:
    """Parse, compare, print the tables."""
    arguments = _runs_first(sys.argv[1:])
    config = parse_options(__doc__ or "", arguments, ComparisonConfig(runs=()), has_names=True)
    # rich and MLflow take a second to import: --help and a mistyped option do not wait for them
    from xpool_platform.compare.launch import PAGE, run_comparison  # noqa: PLC0415
    from xpool_platform.compare.tables import conclusions, tables_of  # noqa: PLC0415
    from xpool_platform.console import Console  # noqa: PLC0415
    from xpool_platform.tracking.where import how_to_open  # noqa: PLC0415

    console = Console()
    result = run_comparison(config, console)
    for table in tables_of(result.comparison, short_names=True):
        if table.rows:
            console.rows(table.title, table.header, table.rows, unbroken=table.of_numbers)
        else:
            console.line(table.title)
    for sentence in (*result.comparison.warnings, *conclusions(result.comparison)):
        console.line(sentence)
    console.line(f"page: {result.folder / PAGE}")
    if result.not_logged:
        console.line(result.not_logged)
    else:
        console.line(how_to_open(result.tracking_uri, source_roots.ROOT))


def _runs_first(arguments: list[str]) -> list[str]:
    """The runs, which may stand anywhere, before the options, all of which take a value."""
    runs: list[str] = []
    options: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if not argument.startswith("-"):
            runs.append(argument)
            continue
        options.append(argument)
        if "=" not in argument and argument not in ("-h", "--help"):
            options.extend(value for value in (next(waiting, None),) if value is not None)
    return [*runs, *options]


if __name__ == "__main__":
    run_job(main)
