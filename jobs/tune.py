"""Vary fields of an experiment: python jobs/tune.py [EXPERIMENT] [--space.FIELD DISTRIBUTION ...]

A distribution is choice(4, 8, 12), uniform(0, 0.5), loguniform(1e-6, 1e-4), randint(4, 16), or
grid(4, 8) for --search grid. Without any, a sweep varies the temperature, the number of frames and
the learning rate. It chooses on train.select_on and tests the winner once. A sweep that was
interrupted goes on where it was: python jobs/tune.py --resume SWEEP.
"""

import sys
from pathlib import Path

import source_roots  # first: it puts the packages below on the path
from command_line import option_value, parse, run_job, split_name
from xpool_platform.config import ExperimentConfig
from xpool_platform.config_io import as_kind
from xpool_platform.errors import UserError
from xpool_platform.output_dir import resolve_output_dir
from xpool_platform.sweep_config import SweepConfig
from xpool_platform.sweeps import sweep_of
from xpool_platform.tune.space import Space, parse_space, read_space
from xpool_platform.tune.sweep_files import check_same_sweep, read_sweep

SPACE = "--space."


def main() -> None:
    """Parse, sweep, print the best and the winner's test."""
    name, arguments = split_name(sys.argv[1:])
    texts, options = _split_space(arguments)
    resumed = option_value(options, "--resume")
    if resumed:
        config, space = _resumed(resumed, name, texts, options)
    else:
        config, space = _new(name or "shapes", texts, options)
    # Ray and torch take seconds to import: --help and a mistyped option do not wait for them
    from xpool_platform.console import Console  # noqa: PLC0415
    from xpool_platform.tracking.where import how_to_open  # noqa: PLC0415
    from xpool_platform.training_command import SHORTENED, training_command  # noqa: PLC0415
    from xpool_platform.tune.ending import rows_of  # noqa: PLC0415
    from xpool_platform.tune.launch import run_sweep  # noqa: PLC0415

    console = Console()
    if config.name != (name or config.name):
        console.line(f"{name} selects on the test split: the sweep is one of {config.name}")
    result = run_sweep(config, space, console)
    ranking, winner = result.ranking, result.best[0]
    header = ["trial", *space, *ranking.metrics, "ended"]
    title = f"best trials of {result.name} by {ranking.metric}, 95 % bootstrap intervals"
    console.rows(title, header, rows_of(result.best, list(space), ranking))
    console.table(result.report, f"{winner.name}, the best, tested once")
    console.line(f"{winner.name} on {result.report.split}: {result.report.recalls()}")
    training = as_kind(config, ExperimentConfig)
    command = training_command(training, winner.values, without=SHORTENED)
    console.line(f"to train it again on the whole schedule: {command}")
    if winner.copies:
        console.line("its learning rates changed on the way; these are the last ones")
    page = result.experiment_id, result.run_id
    console.line(how_to_open(result.tracking_uri, source_roots.ROOT, *page))


def _new(name: str, texts: dict[str, str], options: list[str]) -> tuple[SweepConfig, Space]:
    default, default_texts = sweep_of(name)
    config = parse(__doc__ or "", options, default)
    try:
        if config.space_file:
            texts = read_space(Path(config.space_file).expanduser()) | texts
        return config, parse_space(texts or default_texts, config)
    except ValueError as error:
        raise UserError(str(error)) from error


def _resumed(
    sweep: str, name: str | None, texts: dict[str, str], options: list[str]
) -> tuple[SweepConfig, Space]:
    output_dir = resolve_output_dir(option_value(options, "--output-dir") or "")
    before, kept = read_sweep(sweep, output_dir)
    if name not in (None, before.name) or texts:
        raise UserError("resume: a sweep goes on with its own experiment and space")
    config = parse(__doc__ or "", options, before)
    check_same_sweep(before, config)
    return config, parse_space(kept, before)


def _split_space(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    """The distributions by field, and the other options."""
    texts: dict[str, str] = {}
    options: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if not argument.startswith(SPACE):
            options.append(argument)
            continue
        field, equals, text = argument.removeprefix(SPACE).partition("=")
        value = text if equals else next(waiting, None)
        if value is None or value.startswith("--"):
            raise UserError(f"{argument} has no distribution; write one, as in choice(4, 8, 12)")
        texts[field] = value
    return texts, options


if __name__ == "__main__":
    run_job(main)
