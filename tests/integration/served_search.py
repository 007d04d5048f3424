"""jobs/serve.py as a process on a free port, and requests that nothing tidies up on their way."""

import http.client
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil
from conftest import finish, processes_of, start_job


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class Served:
    """A service that runs."""

    port: int
    address: str
    """As the job prints it."""

    marker: str
    """In the environment of all its processes."""

    def ask(
        self,
        target: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        method: str = "GET",
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        source: str = "127.0.0.1",
    ) -> Answer:
        """The answer to a request for exactly this target, asked from an address of loopback."""
        if parameters:
            target = f"{target}?{urlencode(parameters)}"
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=60, source_address=(source, 0)
        )
        try:
            connection.request(method, target, body, dict(headers or {}))
            answer = connection.getresponse()
            return Answer(status=answer.status, headers=answer.headers, body=answer.read())
        finally:
            connection.close()

    def post(self, value: Any, **options: Any) -> Answer:
        """The answer to /search with a body of JSON, or of bytes as they are."""
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        headers = {"content-type": "application/json"}
        return self.ask("/search", method="POST", body=body, headers=headers, **options)

    def processes(self) -> list[psutil.Process]:
        return processes_of(self.marker)


@contextmanager
def served_search(index: Path, *options: str, **environment: str) -> Iterator[Served]:
    """A service on an index until the block ends; then nothing of it is left."""
    marker = uuid.uuid4().hex
    process = start_job(
        *(str(index), "--port", "0", *options),
        script="jobs/serve.py",
        TEST_MARKER=marker,
        **environment,
    )
    try:
        line = process.stdout.readline()
        if not line.startswith("search: "):
            done = finish(process)
            raise AssertionError(line + done.out + done.err)
        address = line.split()[1]
        port = int(address.split("/")[2].rpartition(":")[2])
        yield Served(port=port, address=address, marker=marker)
    finally:
        process.terminate()
        finish(process, timeout_s=60)
        _, alive = psutil.wait_procs(processes_of(marker), timeout=30)
        assert not alive
