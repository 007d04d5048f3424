"""From what a sweep draws the value of a field, written as `loguniform(0.01, 0.2)`."""

import ast
import math
from dataclasses import dataclass
from typing import Any

Value = float | int | str | bool | None


@dataclass(frozen=True)
class _Listed:
    values: tuple[Value, ...]

    @property
    def extremes(self) -> tuple[Value, ...]:
        """The values that a field has to allow, for it to allow all."""
        return self.values

    def __str__(self) -> str:
        return f"{type(self).__name__.lower()}({', '.join(map(repr, self.values))})"


class Choice(_Listed):
    """One of these values."""


class Grid(_Listed):
    """Each of these values, with each of those of the other grids."""


@dataclass(frozen=True)
class _Between:
    low: float
    high: float

    @property
    def extremes(self) -> tuple[Value, ...]:
        """The values that a field has to allow, for it to allow all."""
        return self.low, self.high

    def __str__(self) -> str:
        return f"{type(self).__name__.lower()}({self.low!r}, {self.high!r})"


class Uniform(_Between):
    """A number between two others."""


class LogUniform(_Between):
    """A number above 0 whose logarithm is uniform between those of two others."""


@dataclass(frozen=True)
class RandInt(_Between):
    """A whole number from `low` to `high`, both included."""

    low: int
    high: int


Distribution = Choice | Grid | Uniform | LogUniform | RandInt

KINDS = {kind.__name__.lower(): kind for kind in (Choice, Grid, Uniform, LogUniform, RandInt)}


def parse_distribution(text: str) -> Distribution:
    """What the text says; nothing in it is executed. Raises ValueError, saying what is wrong."""
    name, values = _call(text)
    if name in ("choice", "grid"):
        if not values:
            raise ValueError(f"{text!r} has nothing to choose from")
        if len(set(map(repr, values))) < len(values):
            raise ValueError(f"{text!r} has a value twice")
        return Choice(values) if name == "choice" else Grid(values)
    if len(values) != 2 or not all(_is_number(value) for value in values):
        raise ValueError(f"{text!r} should have two numbers, as in {name}(1, 2)")
    low, high = values
    if not low < high:
        raise ValueError(f"{text!r} should have the smaller number first")
    if name == "randint":
        if not (isinstance(low, int) and isinstance(high, int)):
            raise ValueError(f"{text!r} should have whole numbers")
        return RandInt(low, high)
    if name == "loguniform":
        if low <= 0:
            raise ValueError(f"{text!r} should have numbers above 0")
        return LogUniform(low, high)
    return Uniform(low, high)


def _call(text: str) -> tuple[str, tuple[Any, ...]]:
    example = "loguniform(0.01, 0.2) or choice(4, 8, 12)"
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.keywords:
            raise ValueError("no call")
        values = tuple(ast.literal_eval(argument) for argument in call.args)
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{text!r} is no distribution; write it as {example}") from error
    if call.func.id not in KINDS:
        raise ValueError(f"{call.func.id!r} is none of {', '.join(KINDS)}; write it as {example}")
    if not all(isinstance(value, Value) for value in values):
        raise ValueError(f"{text!r} has values that no field takes; write it as {example}")
    return call.func.id, values


def _is_number(value: Value) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value)
