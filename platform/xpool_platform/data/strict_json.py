"""JSON of other people: a key twice, nesting without end and the like are plain ValueErrors."""

import json
from collections import Counter
from typing import Any

from xpool_platform.data.plain_text import shown

MAX_DIGITS = 1000


def parse_json(text: str) -> Any:
    """The value. Raises ValueError for what is no JSON or names a key of an object twice."""
    try:
        return json.loads(text, object_pairs_hook=_object, parse_int=_integer)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _integer(digits: str) -> int:
    """Python refuses thousands of digits too, with advice for programmers."""
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"it has a number of {len(digits)} digits")
    return int(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Without this, json takes the last of two values of a key and says nothing."""
    made = dict(pairs)
    if len(made) < len(pairs):
        doubled = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        more = f" and {len(doubled) - 5} more" if len(doubled) > 5 else ""
        raise ValueError(f"it has twice the key {', '.join(map(shown, doubled[:5]))}{more}")
    return made
