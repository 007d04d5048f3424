"""The command line of the jobs: an experiment by name, and any field of its config."""

import contextlib
import difflib
import io
import re
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

import tyro

from xpool_platform.config import ExperimentConfig
from xpool_platform.config_io import flatten
from xpool_platform.errors import UserError
from xpool_platform.experiments import EXPERIMENTS, experiment


def parse(description: str, arguments: list[str], default_experiment: str) -> ExperimentConfig:
    """The config that the command line asks for. Raises UserError for what is wrong in it."""
    name = default_experiment
    if arguments and not arguments[0].startswith("-"):
        name, *arguments = arguments
    default = experiment(name)
    _check_options(default, arguments)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                ExperimentConfig,
                args=arguments,
                default=default,
                description=f"{description}\n\nExperiments: {', '.join(EXPERIMENTS)}. The "
                f"defaults below are those of {name}.",
                config=(tyro.conf.FlagConversionOff,),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(_sentence(complaint.getvalue())) from None


def run_job(main: Callable[[], None]) -> NoReturn:
    """Run a job's main; a user's mistake becomes one sentence, Ctrl-C and SIGTERM status 130."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)


def _sentence(box: str) -> str:
    """What tyro says, without the box around it and the section before our own sentence."""
    lines: list[str] = []
    for line in box.splitlines()[1:]:
        text = line.strip().strip("│").strip()
        if not text.strip("─╰╯"):
            break
        lines.append(text)
    return re.sub(r"^Error parsing (?:(--\S+: )|\S+: )", r"\1", " ".join(lines)) or box


def _check_options(default: ExperimentConfig, arguments: list[str]) -> None:
    known = {f"--{name.replace('_', '-')}" for name in flatten(default)} | {"--help", "-h"}
    for argument in arguments:
        option = argument.split("=", 1)[0]
        if not option.startswith("--") or option.replace("_", "-") in known:
            continue
        close = difflib.get_close_matches(option, known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UserError(f"there is no option {option}: {hint}--help lists them all")


def _interrupt(_signal_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
