"""All that is wrong with the data, in one error."""

from collections.abc import Sequence

from xpool_platform.errors import UserError

MAX_LISTED = 50


def problems_error(heading: str, problems: Sequence[str], way_out: str) -> UserError:
    """The error that says how many problems there are and lists the first MAX_LISTED of them."""
    more = len(problems) - MAX_LISTED
    lines = [*problems[:MAX_LISTED], *([f"and {more} more"] if more > 0 else [])]
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return UserError(f"{heading}, {count}:\n  " + "\n  ".join(lines) + f"\n{way_out}")
