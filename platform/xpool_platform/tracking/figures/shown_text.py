"""Captions as a figure can show them."""

import textwrap
from functools import cache

from matplotlib.font_manager import findfont, get_font

LINE_CHARS = 105
"""About what fits across a figure at 9 points."""

NO_GLYPH = "\N{WHITE VERTICAL RECTANGLE}"


def quoted(caption: str, *, line_chars: int = LINE_CHARS, max_lines: int = 2) -> str:
    """A caption in quotation marks, wrapped as `wrapped` does."""
    return wrapped(f"“{caption}”", line_chars=line_chars, max_lines=max_lines, end="”")


def wrapped(text: str, *, line_chars: int = LINE_CHARS, max_lines: int = 2, end: str = "") -> str:
    """A text in lines, cut with an ellipsis and this end where it is longer.

    What the font cannot draw becomes a box, without a warning for each character.
    """
    drawable = _drawable()
    plain = "".join(c if c.isspace() or c in drawable else NO_GLYPH for c in text)
    lines = textwrap.wrap(plain, line_chars, max_lines=max_lines, placeholder=f" …{end}")
    return "\n".join(lines)


@cache
def _drawable() -> frozenset[str]:
    return frozenset(map(chr, get_font(findfont("DejaVu Sans")).get_charmap()))
