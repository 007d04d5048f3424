"""What ids and captions may be made of, and how a value of any kind looks in a message."""

import unicodedata

MAX_ID_CHARACTERS = 500
MAX_CAPTION_CHARACTERS = 100_000
MAX_SHOWN_CHARACTERS = 80

NOT_IN_IDS = frozenset(("Cc", "Cs", "Zl", "Zp"))
"""Unicode's categories of control characters, lone surrogates and separators of lines."""


def id_problem(text: str) -> str | None:
    """Why a text is no id and no path of a video, or None."""
    if not text:
        return "is empty"
    if len(text) > MAX_ID_CHARACTERS:
        return f"has {len(text)} characters, and {MAX_ID_CHARACTERS} are the most"
    if not text.isprintable() and any(unicodedata.category(c) in NOT_IN_IDS for c in text):
        return "has control characters in it"
    return None


def caption_problem(text: str) -> str | None:
    """Why a text is no caption, or None. Line ends and tabs may be in it."""
    if not text:
        return "is empty"
    if len(text) > MAX_CAPTION_CHARACTERS:
        return f"has {len(text)} characters, and {MAX_CAPTION_CHARACTERS} are the most"
    if "\0" in text:
        return "has a NUL character in it"
    return None if is_unicode(text) else "has half of a surrogate pair in it"


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8: JSON's escapes and names of files may not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(text: str) -> str:
    """A text for a message: quoted, on one line, not too long, and safe for a terminal."""
    if len(text) > MAX_SHOWN_CHARACTERS:
        text = text[:MAX_SHOWN_CHARACTERS] + "…"
    return repr(text) if is_unicode(text) else ascii(text)


def named(text: str) -> str:
    """An id or a path for a message: as it is if it is plain text."""
    return shown(text) if id_problem(text) else text


def printable(text: str) -> str:
    """What another program says of a file, which may quote any bytes of it, for a message."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text[:300].split()))


def kind_of(value: object) -> str:
    """What a value of JSON is, in words."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"
