"""Train an experiment: python jobs/train.py [EXPERIMENT] [--section.field VALUE ...]"""

import source_roots  # noqa: F401  # first: it puts the packages below on the path
import sys

from command_line import parse, run_job

from xpool_platform.console import Console
from xpool_platform.tracking.where import how_to_open
from xpool_platform.train.launch import run_training


def main() -> None:
    """Parse, train, print the table."""
    config = parse(__doc__ or "", sys.argv[1:], default_experiment="shapes")
    console = Console()
    result = run_training(config, console)
    selected = f"best of the checkpoints by t2v R@1 on {config.train.select_on}"
    console.table(result.report, f"{result.run_name}: {selected}; 95 % bootstrap intervals")
    console.line(how_to_open(result.tracking_uri))


if __name__ == "__main__":
    run_job(main)
