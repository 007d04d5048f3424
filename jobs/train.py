"""Train an experiment: python jobs/train.py [EXPERIMENT] [--section.field VALUE ...]"""

import sys

import source_roots  # first: it puts the packages below on the path
from command_line import parse, run_job, split_name
from xpool_platform.experiments import experiment


def main() -> None:
    """Parse, train, print the table."""
    name, options = split_name(sys.argv[1:])
    config = parse(__doc__ or "", options, experiment(name or "shapes"))
    # Ray and torch take seconds to import: --help and a mistyped option do not wait for them
    from xpool_platform.console import Console  # noqa: PLC0415
    from xpool_platform.tracking.where import how_to_open  # noqa: PLC0415
    from xpool_platform.train.launch import run_training  # noqa: PLC0415

    console = Console()
    result = run_training(config, console)
    selected = f"best of the checkpoints by t2v R@1 on {config.train.select_on}"
    console.table(result.report, f"{result.run_name}: {selected}; 95 % bootstrap intervals")
    console.line(how_to_open(result.tracking_uri, source_roots.ROOT))


if __name__ == "__main__":
    run_job(main)
