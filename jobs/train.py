"""Train an experiment: python jobs/train.py [EXPERIMENT] [--section.field VALUE ...]

A run that was interrupted goes on where it was: python jobs/train.py --resume RUN. The weights of
another run are where a new one begins: python jobs/train.py EXPERIMENT --init-from RUN.
"""

import sys

import source_roots  # first: it puts the packages below on the path
from command_line import option_value, parse, run_job, split_name
from xpool_platform.config import TrainingConfig
from xpool_platform.config_io import as_kind
from xpool_platform.errors import UserError
from xpool_platform.experiments import experiment
from xpool_platform.interrupted_run import check_resumable, interrupted_config
from xpool_platform.output_dir import resolve_output_dir


def main() -> None:
    """Parse, train, print the table."""
    name, options = split_name(sys.argv[1:])
    resumed = option_value(options, "--resume")
    if resumed:
        output_dir = resolve_output_dir(option_value(options, "--output-dir") or "")
        before = interrupted_config(resumed, output_dir)
        if name not in (None, before.name):
            raise UserError(f"run {resumed!r} is one of {before.name!r}, not of {name!r}")
    else:
        before = experiment(name or "shapes")
    config = parse(__doc__ or "", options, as_kind(before, TrainingConfig))
    if resumed:
        check_resumable(before, config)
    # Ray and torch take seconds to import: --help and a mistyped option do not wait for them
    from xpool_platform.console import Console  # noqa: PLC0415
    from xpool_platform.tracking.where import how_to_open  # noqa: PLC0415
    from xpool_platform.train.launch import run_training  # noqa: PLC0415

    console = Console()
    result = run_training(config, console)
    selected = f"best of the checkpoints by t2v R@1 on {config.train.select_on}"
    console.table(result.report, f"{result.run_name}: {selected}; 95 % bootstrap intervals")
    page = result.experiment_id, result.run_id
    console.line(how_to_open(result.tracking_uri, source_roots.ROOT, *page))


if __name__ == "__main__":
    run_job(main)
