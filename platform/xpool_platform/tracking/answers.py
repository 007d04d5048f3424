"""What a user is told of an MLflow store or server that does not answer, or refuses."""

from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException

from xpool_platform.errors import UserError

UNKNOWN_USER, NOT_PERMITTED = 401, 403


def http_status(error: Exception) -> int | None:
    """The status of HTTP that an error of MLflow's client stands for; None: of no answer."""
    if isinstance(error, MlflowException):
        return error.get_http_status_code()
    return getattr(getattr(error, "response", None), "status_code", None)


@contextmanager
def answering(uri: str, otherwise: str) -> Iterator[None]:
    """Raise UserError where a store gives no answer or refuses; `otherwise`: than to start it."""
    try:
        yield
    except (MlflowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        status = http_status(error)
        if status == UNKNOWN_USER:
            raise UserError(
                f"tracking.uri {uri!r} does not know who asks ({reason}); set "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to a user of that server"
            ) from error
        if status == NOT_PERMITTED:
            raise UserError(
                f"tracking.uri {uri!r} does not let this user do that ({reason}); ask the owner "
                "of the experiment or run for permission, or set --tracking.experiment to a name "
                "of your own"
            ) from error
        raise UserError(
            f"tracking.uri {uri!r} does not answer as an MLflow store ({reason}); start the "
            f"server there, or {otherwise}"
        ) from error
