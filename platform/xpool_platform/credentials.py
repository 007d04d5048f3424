"""Passwords and keys stay in the environment: a config is written to files, logs and MLflow."""

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from xpool_platform.errors import UserError

SCHEME = re.compile(r"\s*([a-z][a-z0-9+.-]*)://", re.IGNORECASE)

SECRET = re.compile("key|secret|token|pass|pwd|credential|sig", re.IGNORECASE)
"""Names of a URI's parameters that look like a secret."""

VARIABLES = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "http": "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    "https": "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    "postgresql": "PGUSER and PGPASSWORD",
}
"""Where they belong, by the scheme of the URI."""


def refuse_credentials(values: Mapping[str, object]) -> None:
    """Raise UserError for a value, by the name of its field, that holds a user or a secret.

    The value is not repeated.
    """
    for field, value in values.items():
        for each in value if isinstance(value, list | tuple) else (value,):
            if isinstance(each, str) and holds_credentials(each):
                scheme = each.split(":", 1)[0].strip().lower()
                variables = VARIABLES.get(scheme.split("+")[0], "the variables of its client")
                raise UserError(
                    f"{field} is a {scheme} URI with a user name, a password or a key in it, which "
                    f"would be written to files, logs and MLflow; leave it out of {field} and give "
                    f"it in the environment instead: {variables}"
                )


def holds_credentials(location: str) -> bool:
    """Whether a URI names a user or has a parameter that looks like a secret.

    What cannot be read as a URI is taken for one that does.
    """
    if SCHEME.match(location) is None:
        return False
    try:
        parts = urlsplit(location.strip())
    except ValueError:
        return True
    named = [
        name
        for text in (parts.query, parts.fragment)
        for name, _ in parse_qsl(text, keep_blank_values=True)
    ]
    return "@" in parts.netloc or any(map(SECRET.search, named))
