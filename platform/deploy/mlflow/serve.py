"""Start a shared MLflow server with its doors locked: the one way, for containers and by hand.

Everything comes from the environment (docs/mlflow_server.md): libpq's PG* variables name the
database, MLFLOW_ARTIFACTS_DESTINATION the bucket, AWS_* how to reach it. A variable NAME may be
given as NAME_FILE, a file with its value, as secrets are mounted.
"""

import os
import re
import sys
from pathlib import Path
from urllib.parse import urlparse

import boto3
from botocore.exceptions import BotoCoreError, ClientError

NEEDED = (
    "PGHOST",
    "PGDATABASE",
    "PGUSER",
    "MLFLOW_ARTIFACTS_DESTINATION",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
    "MLFLOW_AUTH_ADMIN_PASSWORD",
)
SECRETS = (
    "PGPASSWORD",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
    "MLFLOW_AUTH_ADMIN_PASSWORD",
)
LOOPBACK = ("127.0.0.1", "localhost", "::1")

LOCKED = {
    "MLFLOW_AUTH_CONFIG_PATH": str(Path(__file__).resolve().with_name("basic_auth.ini")),
    "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",
    # A user's own artifact location, such as file:///srv, would have the server write there.
    "MLFLOW_ARTIFACT_LOCATION_MAX_LENGTH": "0",
    # A model version whose source is an address in the bucket would be read with the server's
    # credentials, past the permissions of the experiment that it belongs to.
    "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX": (r"^(models|runs|mlflow-artifacts):/"),
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""What no environment changes."""


def main() -> None:
    """Check the environment, make the bucket if it is not there, and become the server."""
    read_secret_files()
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing:
        sys.exit(f"not set: {', '.join(missing)}; docs/mlflow_server.md says what they are")
    host = os.environ.setdefault("MLFLOW_HOST", "127.0.0.1")
    port = os.environ.setdefault("MLFLOW_PORT", "5000")
    restrict_hosts(host, port)
    ensure_bucket(os.environ["MLFLOW_ARTIFACTS_DESTINATION"])
    os.environ.update(LOCKED)
    # without it a client that leaves its connection open holds up the end for half a minute
    asked = os.environ.get("MLFLOW_UVICORN_OPTS", "")
    os.environ["MLFLOW_UVICORN_OPTS"] = f"{asked} --timeout-graceful-shutdown 5".strip()
    os.umask(0o077)
    server = ("-m", "mlflow", "server", "--host", host, "--port", port)
    stores = ("--backend-store-uri", "postgresql+psycopg2://", "--serve-artifacts")
    os.execv(sys.executable, [sys.executable, *server, *stores, "--app-name", "basic-auth"])


def read_secret_files() -> None:
    """Set NAME to the content of NAME_FILE, for each secret that comes so."""
    for name in SECRETS:
        path = os.environ.pop(f"{name}_FILE", "")
        if path:
            try:
                os.environ[name] = Path(path).read_text(encoding="utf-8").strip()
            except OSError as error:
                sys.exit(f"{name}_FILE cannot be read: {error}")


def restrict_hosts(host: str, port: str) -> None:
    """Answer to names that were given, else to this machine's own: MLflow's default has all
    private addresses, by patterns that a public name such as 10.example.org fits."""
    names = os.environ.get("MLFLOW_SERVER_ALLOWED_HOSTS", "")
    if not names and host in LOOPBACK:
        names = ",".join(f"{name},{name}:{port}" for name in ("localhost", "127.0.0.1"))
        os.environ["MLFLOW_SERVER_ALLOWED_HOSTS"] = names
    origins = os.environ.get("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", "")
    if any(is_any(origin) for origin in origins.split(",")):
        sys.exit(
            f"MLFLOW_SERVER_CORS_ALLOWED_ORIGINS is {origins!r}: name the pages that may ask, as "
            "https://mlflow.example.org"
        )
    if not names or any(is_any(name) for name in names.split(",")):
        sys.exit(
            f"MLFLOW_SERVER_ALLOWED_HOSTS is {names!r} and the server listens on {host}: name "
            "what clients call it, as mlflow.example.org,mlflow.example.org:5000"
        )


def is_any(pattern: str) -> bool:
    """Whether a pattern of MLflow's fits every name: `*`, `**`, `*:5000`, `https://*`."""
    name = re.sub(r"^\s*(https?://)?|:[\d*]+\s*$", "", pattern)
    return "*" in name and re.search(r"[A-Za-z0-9]", name) is None


def ensure_bucket(destination: str) -> None:
    """Make the bucket of s3://bucket/folder if the store has none of this name."""
    parsed = urlparse(destination)
    if parsed.scheme != "s3" or not parsed.netloc:
        sys.exit(f"MLFLOW_ARTIFACTS_DESTINATION is {destination!r}: give s3://bucket/folder")
    bucket = parsed.netloc
    try:
        client = boto3.client("s3")
        try:
            client.head_bucket(Bucket=bucket)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
            region = client.meta.region_name
            elsewhere = {"CreateBucketConfiguration": {"LocationConstraint": region}}
            client.create_bucket(Bucket=bucket, **({} if region == "us-east-1" else elsewhere))
    except (BotoCoreError, ClientError) as error:
        sys.exit(f"bucket {bucket} cannot be used: {error}")


if __name__ == "__main__":
    main()
