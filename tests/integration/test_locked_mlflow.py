"""The shared MLflow server as it is deployed refuses what it should."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from shared_mlflow_server import ADMIN, BUCKET, SharedMlflow, make_secrets, shared_mlflow_server

OWNER, STRANGER = "ada", "bob"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
PRESIGNED = "/api/2.0/mlflow-artifacts/presigned"


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[SharedMlflow]:
    with shared_mlflow_server(tmp_path_factory.mktemp("locked")) as server:
        for name in (OWNER, STRANGER):
            server.add_user(name)
        yield server


@dataclass(frozen=True)
class Owned:
    """What a user has recorded: an experiment with a run with an artifact, `secret.txt`."""

    experiment: str
    run: str

    @property
    def artifacts(self) -> str:
        return f"{self.experiment}/{self.run}/artifacts"


@pytest.fixture(scope="module")
def owned(server) -> Owned:
    answer = server.api("experiments/create", OWNER, name="private")
    experiment = answer.json()["experiment_id"]
    run = server.api("runs/create", OWNER, experiment_id=experiment).json()["run"]["info"]
    owned = Owned(experiment, run["run_id"])
    assert run["artifact_uri"] == f"mlflow-artifacts:/{owned.artifacts}"
    path = f"{ARTIFACTS}/{owned.artifacts}/secret.txt"
    assert server.request("PUT", path, OWNER, data=b"mine").status_code == 200
    assert server.request("GET", path, OWNER).content == b"mine"
    return owned


def answers(server: SharedMlflow, owned: Owned, user: str | None) -> dict[str, int]:
    """The status of each way to read or change what the owner has."""
    run, by_run = owned.run, {"run_id": owned.run}
    file = f"{ARTIFACTS}/{owned.artifacts}/secret.txt"
    metric = {"key": "k", "value": 1, "timestamp": 1, "step": 0}
    reads = {
        "experiment": f"/api/2.0/mlflow/experiments/get?experiment_id={owned.experiment}",
        "experiment by name": "/api/2.0/mlflow/experiments/get-by-name?experiment_name=private",
        "run": f"/api/2.0/mlflow/runs/get?run_id={run}",
        "history": f"/api/2.0/mlflow/metrics/get-history?run_id={run}&metric_key=k",
        "list": f"/api/2.0/mlflow/artifacts/list?run_id={run}",
        "list of the store": f"{ARTIFACTS}?path={owned.artifacts}",
        "list of its root": ARTIFACTS,
        "artifact": file,
        "address in the bucket": f"{PRESIGNED}/{owned.artifacts}/secret.txt",
        "artifact by the page": f"/get-artifact?run_id={run}&path=secret.txt",
    }
    asked = {what: server.request("GET", path, user) for what, path in reads.items()}
    asked |= {
        "new run": server.api("runs/create", user, experiment_id=owned.experiment),
        "metric": server.api("runs/log-metric", user, **by_run, **metric),
        "tag": server.api("runs/set-tag", user, **by_run, key="k", value="v"),
        "delete run": server.api("runs/delete", user, **by_run),
        "delete": server.api("experiments/delete", user, experiment_id=owned.experiment),
        "overwrite artifact": server.request("PUT", file, user, data=b"other"),
        "delete artifact": server.request("DELETE", file, user),
        "new user": server.api("users/create", user, username="eve", password="long-enough-1"),
    }
    return {what: answer.status_code for what, answer in asked.items()}


def test_nobody_reads_or_writes_without_a_name(server, owned):
    assert set(answers(server, owned, None).values()) == {401}
    assert server.api("experiments/search", None, max_results=9).status_code == 401
    assert server.api("experiments/create", None, name="nobody's").status_code == 401
    for page in ("/", "/graphql", "/signup", "/version", "/metrics", "/docs", "/openapi.json"):
        assert server.request("GET", page, None).status_code == 401, page


def test_a_wrong_password_is_no_password(server):
    path = "/api/2.0/mlflow/experiments/get?experiment_id=0"
    for password in ("", "password1234", server.passwords[STRANGER]):
        wrong = requests.get(
            f"{server.uri}{path}", auth=(ADMIN, password), verify=server.ca, timeout=60
        )
        assert wrong.status_code == 401


def test_a_user_reaches_nothing_of_anothers(server, owned):
    refused = answers(server, owned, STRANGER)
    assert {what: status for what, status in refused.items() if status != 403} == {}
    found = server.api("runs/search", STRANGER, experiment_ids=[owned.experiment])
    assert found.json() == {}
    found = server.api("experiments/search", STRANGER, max_results=9)
    assert found.json() == {}
    asked = server.request("GET", f"{ARTIFACTS}/{owned.artifacts}/secret.txt", OWNER)
    assert asked.content == b"mine"


def test_an_experiment_that_is_shared_can_be_read_and_no_more(server, owned):
    server.add_user("guest")
    server.request(
        "POST",
        "/api/3.0/mlflow/users/permissions/grant",
        OWNER,
        json={
            "username": "guest",
            "resource_type": "experiment",
            "resource_id": owned.experiment,
            "permission": "READ",
        },
    ).raise_for_status()
    allowed = {what for what, status in answers(server, owned, "guest").items() if status < 400}
    assert allowed == {
        *("experiment", "experiment by name", "run", "history", "list", "list of the store"),
        *("artifact", "address in the bucket", "artifact by the page"),
    }


def test_an_ordinary_user_cannot_become_an_admin(server):
    users = "/api/2.0/mlflow/users"
    raised = {"username": STRANGER, "is_admin": True}
    answer = server.request("PATCH", f"{users}/update-admin", STRANGER, json=raised)
    assert answer.status_code == 403
    stolen = {"username": ADMIN, "password": "long-enough-2"}
    answer = server.request("PATCH", f"{users}/update-password", STRANGER, json=stolen)
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "location", ["file:///etc", "/etc", "s3://other", "mlflow-artifacts:/1", "https://example.org"]
)
@pytest.mark.parametrize("user", [OWNER, ADMIN])
def test_nobody_chooses_where_artifacts_lie(server, location, user):
    answer = server.api("experiments/create", user, name="own", artifact_location=location)
    assert answer.status_code == 400
    missing = server.request(
        "GET", "/api/2.0/mlflow/experiments/get-by-name?experiment_name=own", ADMIN
    )
    assert missing.status_code == 404


def test_a_model_version_is_no_way_around_permissions(server, owned):
    server.api("registered-models/create", STRANGER, name="door").raise_for_status()
    sources = {
        f"s3://{BUCKET}/of-all/{owned.artifacts}": {},
        f"mlflow-artifacts:/{owned.artifacts}": {},
        f"mlflow-artifacts:/{owned.artifacts}/": {"run_id": owned.run},
        f"runs:/{owned.run}/secret.txt": {"run_id": owned.run},
        "file:///etc": {},
    }
    for source, options in sources.items():
        answer = server.api(
            "model-versions/create", STRANGER, name="door", source=source, **options
        )
        assert answer.status_code in (400, 403), source
    read = "/model-versions/get-artifact?name=door&version=1&path=secret.txt"
    assert server.request("GET", read, STRANGER).status_code == 404


@pytest.mark.parametrize(
    "path", ["../../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "%252e%252e%252fpasswd"]
)
def test_a_path_stays_in_its_run(server, owned, path):
    asked = (
        f"{ARTIFACTS}/{owned.artifacts}/{path}",
        f"{ARTIFACTS}?path={owned.artifacts}/{path}",
        f"/get-artifact?run_id={owned.run}&path={path}",
        f"/api/2.0/mlflow/artifacts/list?run_id={owned.run}&path={path}",
    )
    for address in asked:
        request = requests.Request("GET", server.uri, auth=(OWNER, server.passwords[OWNER]))
        prepared = request.prepare()
        prepared.url = f"{server.uri}{address}"  # as it stands, which requests would tidy
        answer = requests.Session().send(prepared, verify=str(server.ca), timeout=60)
        assert answer.status_code in (400, 403), address
        assert "root:" not in answer.text


@pytest.mark.parametrize("host", ["example.org", "10.example.org", "192.168.1.1", "localhost.org"])
def test_a_foreign_host_is_refused(server, host):
    path = "/api/2.0/mlflow/experiments/get?experiment_id=0"
    answer = server.request("GET", path, ADMIN, headers={"Host": host})
    assert answer.status_code == 403
    assert "Invalid Host header" in answer.text


def test_a_foreign_page_cannot_use_the_browsers_password(server):
    foreign = {"Origin": "https://example.org"}
    body = {"name": "of a foreign page"}
    path = "/api/2.0/mlflow/experiments/create"
    answer = server.request("POST", path, OWNER, json=body, headers=foreign)
    assert answer.status_code == 403
    assert "Cross-origin" in answer.text
    same = {"Origin": server.uri}
    assert server.request("POST", path, OWNER, json=body, headers=same).status_code == 200


def test_only_those_who_have_the_certificate_speak_with_it(server, tmp_path):
    another = make_secrets(tmp_path) / "tls.crt"
    health = f"{server.uri}/health"
    assert requests.get(health, verify=str(server.ca), timeout=60).status_code == 200
    for unknown in (str(another), True):
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(health, verify=unknown, timeout=60)
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get(health.replace("https", "http"), timeout=60)


def test_it_listens_on_this_machine_only(server):
    port = urlsplit(server.uri).port
    processes = [server.process.pid, *(c.pid for c in children(server))]
    listening = {
        connection.laddr
        for pid in processes
        for connection in psutil.Process(pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {("127.0.0.1", port)}


def test_no_secret_is_among_arguments_or_in_the_log(server, owned):
    assert len(children(server)) >= 1
    log = server.log.read_text()
    assert re.search(rf"PUT .*{owned.run}.* 200", log)  # it is the server's
    listed = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
    arguments = [" ".join(words) for words in listed if words]
    assert any("mlflow.server.auth" in line for line in arguments)
    tables = "select username, password_hash from users"
    stored = [str(row) for row in server.postgres.rows(tables)]
    for name, value in {**server.secrets, **server.passwords}.items():
        assert value not in log, name
        assert not any(value in line for line in [*arguments, *stored]), name


def children(server: SharedMlflow) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children(recursive=True)
