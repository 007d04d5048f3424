"""A PostgreSQL server of the distribution's packages, on this machine."""

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import pytest

from free_port import free_port


@dataclass(frozen=True)
class Postgres:
    """A database on this machine, as libpq's environment variables name it."""

    environment: dict[str, str]

    def rows(self, query: str, *values: str) -> list[tuple]:
        """What a query gives."""
        connection = psycopg2.connect(
            host=self.environment["PGHOST"],
            port=self.environment["PGPORT"],
            dbname=self.environment["PGDATABASE"],
            user=self.environment["PGUSER"],
            password=self.environment["PGPASSWORD"],
        )
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(query, values)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """An empty database of the distribution's PostgreSQL, on a free port of this machine."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        pytest.skip("PostgreSQL is missing: apt-get install postgresql")
    binaries = found[-1]
    owner = _other_than_root()
    # pytest's folders are closed to other users than the one who runs it
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        password_file = folder / "password"
        password_file.write_text(secrets.token_hex(16))
        for path in (folder, password_file):
            shutil.chown(path, **owner)
        as_owner = {**owner, "extra_groups": []} if owner else {}

        def run(program: str, *arguments: str) -> None:
            subprocess.run(
                [binaries / program, "-D", folder / "data", *arguments],
                cwd=folder,
                check=True,
                stdout=subprocess.DEVNULL,
                **as_owner,
            )

        port = free_port()
        run("initdb", "-U", "mlflow", "-A", "scram-sha-256", f"--pwfile={password_file}", "-N")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield Postgres(
                {
                    "PGHOST": "127.0.0.1",
                    "PGPORT": str(port),
                    "PGDATABASE": "postgres",
                    "PGUSER": "mlflow",
                    "PGPASSWORD": password_file.read_text(),
                }
            )
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def _other_than_root() -> dict[str, str]:
    """The user as whom PostgreSQL runs, which refuses root; empty: as this one."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            group = pwd.getpwnam(name).pw_gid
        except KeyError:
            continue
        return {"user": name, "group": group}
    pytest.skip("PostgreSQL refuses root, and there is neither a user postgres nor nobody")
