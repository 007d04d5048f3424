"""Decode an experiment's videos ahead: python jobs/prepare.py [EXPERIMENT] [--data.root ...]

`train` and `evaluate` do it themselves when something is missing. --list shows the frame stores
with size, age and experiments; --prune removes those that nothing has used for --unused-days.
"""

import sys

import source_roots  # noqa: F401  # first: it puts the packages below on the path
from command_line import parse, run_job, split_name
from xpool_platform.config import PreparationConfig
from xpool_platform.config_io import as_kind
from xpool_platform.experiments import experiment

LIST, PRUNE = "--list", "--prune"


def main() -> None:
    """Parse, decode or list or prune, print what was done."""
    name, options = split_name(sys.argv[1:])
    action = next((option for option in options if option in (LIST, PRUNE)), None)
    config = parse(
        __doc__ or "",
        [option for option in options if option != action],
        as_kind(experiment(name or "shapes"), PreparationConfig),
    )
    if action is not None:
        _tidy(config, prune=action == PRUNE)
        return
    # Ray takes seconds to import: --help and a mistyped option do not wait for it
    from xpool_platform.console import Console  # noqa: PLC0415
    from xpool_platform.prepare_ahead import prepare_ahead  # noqa: PLC0415

    console = Console()
    done = prepare_ahead(config, console)
    console.line(f"decoded {done.num_decoded} videos, {done.num_present} were there already")
    if done.num_bad:
        console.line(f"{done.num_bad} cannot be decoded: {done.errors_path}")


def _tidy(config: PreparationConfig, *, prune: bool) -> None:
    from xpool_platform.console import Console  # noqa: PLC0415
    from xpool_platform.data.store_catalogue import list_stores, prune_stores  # noqa: PLC0415
    from xpool_platform.preflight import with_absolute_paths  # noqa: PLC0415
    from xpool_platform.prepare import frames_dir  # noqa: PLC0415

    console = Console()
    place = frames_dir(with_absolute_paths(config))
    if prune:
        removed = prune_stores(place, config.unused_days)
        console.stores(removed, f"removed from {place}")
    console.stores(list_stores(place), f"in {place}")


if __name__ == "__main__":
    run_job(main)
