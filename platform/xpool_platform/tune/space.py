"""The fields that a sweep varies, and from what it draws their values."""

import difflib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from xpool_platform.config import ExperimentConfig
from xpool_platform.config_io import flatten
from xpool_platform.tune.distributions import Distribution, RandInt, Value, parse_distribution

Space = Mapping[str, Distribution]
"""Distributions by the dotted names of fields."""

Config = TypeVar("Config")

SWEPT_SECTIONS = "data", "model", "loss", "optim", "train"
OF_THE_DATA = "data.num_frames", "data.augment"
"""What may vary of the data: the videos are decoded once for all trials."""

SHARED = (
    *("train.num_workers", "train.min_workers", "train.cpus_per_worker", "train.use_gpu"),
    "train.gpus_per_worker",
    *("train.select_on", "train.select_mean_of", "train.eval_workers", "train.checkpoints_dir"),
)
"""What trials share of the training: the resources, which are planned, and how they are judged."""


def parse_space(texts: Mapping[str, str], experiment: ExperimentConfig) -> dict[str, Distribution]:
    """Distributions by field, each checked against the field's type and range.

    Raises ValueError that names the field and the value.
    """
    known = flatten(experiment)
    space: dict[str, Distribution] = {}
    for name, text in texts.items():
        field = name.replace("-", "_")
        if field not in known:
            close = difflib.get_close_matches(field, known, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise ValueError(f"space: there is no field {field!r}; {hint}--help lists the fields")
        if not _varies(field):
            raise ValueError(
                f"space: all trials of a sweep share {field!r}; give it a value, --"
                f"{field.replace('_', '-')}"
            )
        try:
            distribution = parse_distribution(text)
        except ValueError as error:
            raise ValueError(f"space.{field}: {error}") from error
        _check_type(field, distribution)
        for value in distribution.extremes:
            try:
                with_values(experiment, {field: value})
            except ValueError as error:
                raise ValueError(f"space.{field}: {error}") from error
        space[field] = distribution
    if not space:
        raise ValueError("space: there is nothing to vary; give --space.FIELD DISTRIBUTION")
    return space


def with_values(config: Config, values: Mapping[str, Value]) -> Config:
    """The config with other values of some fields, by dotted name."""
    changed: dict[str, Any] = {}
    for name, value in values.items():
        section, _, rest = name.partition(".")
        if rest:
            changed.setdefault(section, {})[rest] = value
        else:
            changed[section] = value
    for section, inner in changed.items():
        if isinstance(inner, dict):
            changed[section] = with_values(getattr(config, section), inner)
    return replace(config, **changed)  # type: ignore[type-var]


def read_space(path: Path) -> dict[str, str]:
    """The texts of a YAML file that `write_space` wrote, or a person. Raises ValueError."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"space_file {str(path)!r} cannot be read: {error}") from error
    if not isinstance(found, dict) or not all(
        isinstance(key, str) and isinstance(value, str) for key, value in found.items()
    ):
        raise ValueError(
            f"space_file {str(path)!r} should have a line for each field, as in "
            "loss.temperature: loguniform(0.01, 0.2)"
        )
    return found


def write_space(space: Space, path: Path) -> None:
    """A space as YAML."""
    texts = {name: str(distribution) for name, distribution in space.items()}
    path.write_text(yaml.safe_dump(texts, sort_keys=False), encoding="utf-8")


def _varies(field: str) -> bool:
    section = field.split(".", maxsplit=1)[0]
    if section == "data":
        return field in OF_THE_DATA
    return section in SWEPT_SECTIONS and field not in SHARED


def _check_type(field: str, distribution: Distribution) -> None:
    """Raise ValueError if a value is of another type than the field."""
    wanted = _type_of(ExperimentConfig, field)
    for value in distribution.extremes:
        if not _fits(value, wanted):
            raise ValueError(f"space.{field}: {value!r} is not {_words(wanted)}")
    is_drawn = not hasattr(distribution, "values")
    if is_drawn and not isinstance(distribution, RandInt) and not _fits(0.5, wanted):
        raise ValueError(
            f"space.{field}: {distribution} gives fractions, and the field takes {_words(wanted)}; "
            "use randint or choice"
        )


def _type_of(kind: type, field: str) -> Any:
    name, _, rest = field.partition(".")
    found = get_type_hints(kind)[name]
    return _type_of(found, rest) if rest else found


def _fits(value: Value, wanted: Any) -> bool:
    if get_origin(wanted) in (Union, UnionType):
        return any(_fits(value, option) for option in get_args(wanted))
    if get_origin(wanted) is Literal:
        return value in get_args(wanted)
    if wanted is float:
        return isinstance(value, float | int) and not isinstance(value, bool)
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, wanted)


def _words(wanted: Any) -> str:
    if get_origin(wanted) in (Union, UnionType):
        return " or ".join(map(_words, get_args(wanted)))
    if get_origin(wanted) is Literal:
        return f"one of {', '.join(map(repr, get_args(wanted)))}"
    names = {float: "a number", int: "a whole number", str: "a text", bool: "True or False"}
    return names.get(wanted, "empty (None)")
