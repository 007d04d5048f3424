"""Checks that the parts of a config share."""


def at_least(section: str, values: object, minimum: float, *names: str) -> None:
    """Raise ValueError for the first of these fields whose value is below the minimum.

    `section` is where they are; empty: at the top.
    """
    for name in names:
        value = getattr(values, name)
        if not value >= minimum:
            where = f"{section}." if section else ""
            raise ValueError(f"{where}{name} must be at least {minimum}, not {value}")
