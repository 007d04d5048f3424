"""What a user can put right. Shown as one sentence, without a traceback."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A mistake or a lack outside the program; the message names the thing and the way out."""


@contextmanager
def raised_as_user_error() -> Iterator[None]:
    """Raise the user's part of a failure, if there is one, instead of the failure."""
    try:
        yield
    except Exception as error:
        user_error = user_error_within(error)
        if user_error is None:
            raise
        raise user_error from None


def user_error_within(error: BaseException) -> UserError | None:
    """The user's part of a failure, wherever in Ray's wrappings it lies; None if there is none.

    A full disk counts as the user's.
    """
    for inner in _wrapped(error, set()):
        if isinstance(inner, UserError) and type(inner) is UserError:
            return inner
        if isinstance(inner, OSError) and inner.errno in (errno.ENOSPC, errno.EDQUOT):
            where = f" for {inner.filename}" if inner.filename else ""
            return UserError(
                f"no space left on the device{where}; free some, or set --output-dir to a folder "
                "on a larger disk"
            )
    return None


def _wrapped(error: BaseException | None, seen: set[int]) -> Iterator[BaseException]:
    """An error and all that it was raised from, Ray's own ways of keeping a cause included."""
    if not isinstance(error, BaseException) or id(error) in seen:
        return
    seen.add(id(error))
    yield error
    worker_failures = getattr(error, "worker_failures", None) or {}
    for inner in (
        getattr(error, "cause", None),
        getattr(error, "_base_exc", None),
        getattr(error, "controller_failure", None),
        *worker_failures.values(),
        error.__cause__,
        error.__context__,
    ):
        yield from _wrapped(inner, seen)
