"""The command line of the jobs: an experiment by name, and any field of its config."""

import contextlib
import difflib
import io
import os
import re
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn, TypeVar

import tyro

from xpool_platform.config import ExperimentConfig
from xpool_platform.config_io import flatten
from xpool_platform.errors import UserError
from xpool_platform.experiments import EXPERIMENTS

Config = TypeVar("Config", bound=ExperimentConfig)
Options = TypeVar("Options")


def split_name(arguments: list[str]) -> tuple[str | None, list[str]]:
    """The name that the command line begins with, if it does, and the options after it."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], arguments[1:]
    return None, arguments


def option_value(arguments: list[str], option: str) -> str | None:
    """The value that the command line gives an option, before it is parsed."""
    for i, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name.replace("_", "-") == option:
            return value if equals else next(iter(arguments[i + 1 :]), None)
    return None


def split_positionals(arguments: list[str], example: object) -> tuple[list[str], list[str]]:
    """The arguments that belong to no option, which may stand anywhere, and the options.

    A switch of `example` takes the argument after it only if that is True or False, any other
    option always. After `--` nothing is an option.
    """
    switches = _switches(example)
    words: list[str] = []
    options: list[str] = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        if argument == "--":
            return [*words, *waiting], options
        if argument == "-" or not argument.startswith("-"):
            words.append(argument)
            continue
        options.append(argument)
        if "=" in argument or argument in ("-h", "--help") or not waiting:
            continue
        if argument.replace("_", "-") not in switches or waiting[0] in ("True", "False"):
            options.append(waiting.pop(0))
    return words, options


def parse(description: str, arguments: list[str], default: Config) -> Config:
    """The config that the options ask for. Raises UserError for what is wrong in them."""
    experiments = f"Experiments: {', '.join(EXPERIMENTS)}."
    if default.name:
        experiments += f" The defaults below are those of {default.name}."
    return parse_options(f"{description}\n\n{experiments}", arguments, default)


def parse_options(
    description: str, arguments: list[str], example: Options, *, has_names: bool = False
) -> Options:
    """The same for a config of any kind, of which `example` has the defaults.

    With `has_names` the command line begins with the values of the field that has no default.
    """
    _check_options(example, arguments)
    arguments = _with_true(example, arguments)
    complaint = io.StringIO()
    markers = (tyro.conf.FlagConversionOff, tyro.conf.PositionalRequiredArgs)
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                type(example),
                args=arguments,
                default=None if has_names else example,
                description=description,
                config=markers if has_names else markers[:1],
            )
    except BrokenPipeError:  # as in `--help | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
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


def _with_true(example: object, arguments: list[str]) -> list[str]:
    """A switch without a value is on: `--figures` is `--figures True`."""
    switches = _switches(example)
    spelt: list[str] = []
    for argument, following in zip(arguments, [*arguments[1:], "--"], strict=False):
        spelt.append(argument)
        if argument.replace("_", "-") in switches and following.startswith("--"):
            spelt.append("True")
    return spelt


def _switches(example: object) -> set[str]:
    return {
        f"--{name.replace('_', '-')}"
        for name, value in flatten(example).items()
        if isinstance(value, bool)
    }


def _check_options(default: object, arguments: list[str]) -> None:
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
