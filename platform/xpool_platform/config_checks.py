"""Checks that the parts of a config share."""


def at_least(section: str, values: object, minimum: float, *names: str) -> None:
    """Raise ValueError for the first of these fields whose value is below the minimum."""
    for name in names:
        value = getattr(values, name)
        if not value >= minimum:
            raise ValueError(f"{section}.{name} must be at least {minimum}, not {value}")
