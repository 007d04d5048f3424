"""`make cluster`: a Ray head of this machine that answers to nobody without the token."""

import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, environment, processes_of

from free_port import free_port

pytestmark = pytest.mark.ray

JOIN = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False); print(ray.nodes())"


@dataclass(frozen=True)
class Head:
    home: Path
    ports: dict[str, int]
    environment: dict[str, str]

    @property
    def dashboard(self) -> str:
        return f"http://127.0.0.1:{self.ports['DASHBOARD_PORT']}"

    def status(self, path: str, *, token: str = "", body: bytes | None = None) -> int:
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        asked = urllib.request.Request(f"{self.dashboard}{path}", data=body, headers=headers)
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def run(self, *command: str, **changes: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, *command],
            cwd=self.home,
            env={**self.environment, **changes},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture(scope="module")
def head(tmp_path_factory) -> Iterator[Head]:
    if not (ROOT / ".venv" / ".complete").is_file():
        pytest.skip("make cluster runs in the environment that make setup makes")
    home, marker = tmp_path_factory.mktemp("home"), uuid.uuid4().hex
    ports = {name: free_port() for name in ("RAY_PORT", "DASHBOARD_PORT")}
    while 10_000 < (port := free_port()) < 20_000:  # Ray keeps these for workers
        pass
    ports["CLIENT_PORT"] = port
    given = environment(HOME=str(home), TEST_MARKER=marker)
    ray_files = tempfile.mkdtemp(prefix="xpool-", dir="/tmp")
    more = f"--num-cpus=1 --temp-dir={ray_files} --dashboard-agent-listen-port={free_port()}"
    try:
        started = subprocess.run(
            [
                *("make", "-s", "cluster", "SETUP=", f"ARGS={more}"),
                *(f"{name}={port}" for name, port in ports.items()),
            ],
            cwd=ROOT,
            env=given,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert started.returncode == 0, started.stderr
        assert "export RAY_AUTH_MODE=token RAY_ADDRESS=http://127.0.0.1:" in started.stdout
        yield Head(home, ports, given)
    finally:
        for process in processes_of(marker):
            process.kill()


def test_the_token_is_its_owners_alone(head):
    token = head.home / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert len(token.read_text()) >= 32


def test_without_the_token_nothing_is_answered_and_nothing_runs(head):
    proof = head.home / "ran"
    body = f'{{"entrypoint": "touch {proof}"}}'.encode()
    for token in ("", "0" * 64):
        assert head.status("/api/jobs/", token=token) in (401, 403)
        assert head.status("/api/jobs/", token=token, body=body) in (401, 403)
        assert head.status("/nodes?view=summary", token=token) in (401, 403)
    submit = ("-m", "ray.scripts.scripts", "job", "submit", "--", "touch", str(proof))
    refused = head.run(*submit, RAY_ADDRESS=head.dashboard, HOME="/nowhere")
    assert refused.returncode != 0
    assert "token" in (refused.stdout + refused.stderr).lower()
    wrong = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
    address = f"127.0.0.2:{head.ports['RAY_PORT']}"
    joined = head.run("-c", JOIN, address, **wrong)
    assert joined.returncode != 0
    assert "Alive" not in joined.stdout
    assert not proof.exists()
    assert "Alive" in head.run("-c", JOIN, address, RAY_AUTH_MODE="token").stdout


def test_with_the_token_a_job_runs(head):
    submit = ("-m", "ray.scripts.scripts", "job", "submit", "--", "python", "-c", "print(6 * 7)")
    done = head.run(*submit, RAY_AUTH_MODE="token", RAY_ADDRESS=head.dashboard)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n42\n" in done.stdout
    token = (head.home / ".ray" / "auth_token").read_text()
    assert head.status("/api/jobs/", token=token) == 200


def test_dashboard_and_client_are_not_reached_from_elsewhere(head):
    doors = {head.ports[name] for name in ("DASHBOARD_PORT", "CLIENT_PORT")}
    listening = [
        (each.laddr.port, each.laddr.ip.removeprefix("::ffff:"))
        for each in psutil.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN and each.laddr.port in doors
    ]
    assert {port for port, _ in listening} == doors
    assert all(address.startswith("127.") for _, address in listening)
