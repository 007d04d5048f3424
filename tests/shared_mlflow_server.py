"""A shared MLflow server as it is deployed: PostgreSQL, S3 over HTTP, TLS and users."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests

from free_port import free_port
from object_store import served_bucket
from postgres_server import Postgres, running_postgres

DEPLOYED = Path(__file__).parents[1] / "platform" / "deploy" / "mlflow"
ADMIN = "admin"
BUCKET = "mlflow-artifacts"
START_S = 120


@dataclass
class SharedMlflow:
    """A server that answers at `uri` with the certificate `ca`, and what it stands on."""

    uri: str
    ca: Path
    log: Path
    postgres: Postgres
    bucket_uri: str
    """A folder in another bucket of the same store, for checkpoints and frames."""
    process: subprocess.Popen
    passwords: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    """What the server was given and nobody may read: name to value."""

    def request(self, method: str, path: str, user: str | None, **options) -> requests.Response:
        """Ask the server as a user, or as nobody."""
        auth = (user, self.passwords[user]) if user else None
        address = f"{self.uri}{path}"
        return requests.request(
            method, address, auth=auth, verify=str(self.ca), timeout=60, **options
        )

    def api(self, path: str, user: str | None, **body) -> requests.Response:
        """Post to MLflow's REST interface."""
        return self.request("POST", f"/api/2.0/mlflow/{path}", user, json=body)

    def add_user(self, name: str) -> None:
        """An ordinary user with a password of its own."""
        self.passwords[name] = secrets.token_urlsafe(16)
        answer = self.api("users/create", ADMIN, username=name, password=self.passwords[name])
        answer.raise_for_status()

    def client_environment(self, user: str) -> dict[str, str]:
        """What MLflow's clients read: who asks, and whom to believe."""
        return {
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_TRACKING_USERNAME": user,
            "MLFLOW_TRACKING_PASSWORD": self.passwords[user],
            "MLFLOW_TRACKING_SERVER_CERT_PATH": str(self.ca),
        }


@contextmanager
def shared_mlflow_server(folder: Path) -> Iterator[SharedMlflow]:
    """The server of platform/deploy/mlflow, with an admin and no other user yet.

    This process and its children find the S3 store meanwhile. Skips where PostgreSQL is missing.
    """
    made = make_secrets(folder)
    certificate = made / "tls.crt"
    given = {
        "MLFLOW_AUTH_ADMIN_PASSWORD": made / "admin_password",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": made / "flask_key",
    }
    values = {name: path.read_text().strip() for name, path in given.items()}
    with running_postgres() as postgres, served_bucket("runs") as bucket_uri:
        port = free_port()
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "PG"))},
            **postgres.environment,
            **{f"{name}_FILE": str(path) for name, path in given.items()},
            "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{BUCKET}/of-all",
            "MLFLOW_PORT": str(port),
            "MLFLOW_WORKERS": "1",
            "MLFLOW_UVICORN_OPTS": f"--ssl-keyfile {made / 'tls.key'} --ssl-certfile {certificate}",
        }
        log = folder / "server.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, DEPLOYED / "serve.py"],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        server = SharedMlflow(
            uri=f"https://localhost:{port}",
            ca=certificate,
            log=log,
            postgres=postgres,
            bucket_uri=bucket_uri,
            process=process,
            passwords={ADMIN: values["MLFLOW_AUTH_ADMIN_PASSWORD"]},
            secrets={**values, "PGPASSWORD": postgres.environment["PGPASSWORD"]},
        )
        try:
            _await(server)
            yield server
        finally:
            process.terminate()
            process.wait(timeout=30)


def make_secrets(folder: Path, name: str = "secrets") -> Path:
    """A folder with passwords, keys and a certificate of `localhost`, as a deployment has it."""
    made = folder / name
    subprocess.run([DEPLOYED / "make_secrets.sh", made, "localhost"], check=True)
    return made


def _await(server: SharedMlflow) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            server.request("GET", "/health", None).raise_for_status()
            return
        except requests.RequestException:
            assert server.process.poll() is None, server.log.read_text()
            assert time.monotonic() < deadline, server.log.read_text()
            time.sleep(0.2)
