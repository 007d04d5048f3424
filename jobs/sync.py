"""Send what runs logged while MLflow's server was away: python jobs/sync.py [RUN ...]

Without names, of all runs, sweeps and evaluations of the output folder. Each entry arrives once,
however often this is called. A run that is still going on sends its record itself.
"""

import argparse
import sys

import source_roots  # noqa: F401  # first: it puts the packages below on the path
from command_line import run_job
from xpool_platform.credentials import refuse_credentials
from xpool_platform.output_dir import resolve_output_dir


def main() -> None:
    """Parse, send, print what was sent; status 1 if something is left."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", metavar="RUN", help="names; none: all of them")
    parser.add_argument("--output-dir", default="", help="of the runs; else outputs")
    parser.add_argument(
        "--tracking.uri", dest="uri", default="", help="where to, if not where each was recorded"
    )
    options = parser.parse_args()
    from xpool_platform.console import Console  # noqa: PLC0415  # slow, and --help does not wait
    from xpool_platform.tracking.replay import send_what_is_left  # noqa: PLC0415

    refuse_credentials({"tracking.uri": options.uri})
    output_dir = resolve_output_dir(options.output_dir)
    say = Console().line
    if not send_what_is_left(output_dir, options.runs, say, tracking_uri=options.uri):
        sys.exit(1)


if __name__ == "__main__":
    run_job(main)
