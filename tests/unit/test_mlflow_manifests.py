"""The files that deploy a shared MLflow server: as published schemas and serve.py want them."""

import copy
import json
import re
import subprocess
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

DEPLOYED = Path(__file__).parents[2] / "platform" / "deploy" / "mlflow"
KUBERNETES = "1.30"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOYED / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def objects() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOYED / "kubernetes.yaml").read_text()))


@pytest.fixture(scope="module")
def compose_schema() -> dict[str, Any]:
    package = find_spec("check_jsonschema")
    if package is None:
        pytest.skip("check-jsonschema is missing, which has the schema of compose files")
    folder = Path(package.origin).parent / "builtin_schemas" / "vendor"
    return json.loads((folder / "compose-spec.json").read_text())


def test_the_compose_file_fits_the_schema(compose, compose_schema):
    jsonschema.validate(compose, compose_schema)


@pytest.mark.parametrize("service", ["server", "database", "store"])
def test_a_misspelt_key_of_the_compose_file_is_found(compose, compose_schema, service):
    for key in compose["services"][service]:
        misspelt = copy.deepcopy(compose)
        misspelt["services"][service][f"{key}z"] = misspelt["services"][service].pop(key)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(misspelt, compose_schema)


def test_the_manifests_fit_kubernetes(objects):
    for each in objects:
        kubernetes_validate.validate(each, KUBERNETES, strict=True)


def test_a_misspelt_key_of_a_manifest_is_found(objects):
    specified = [each for each in objects if "spec" in each]
    assert len(specified) == 5
    for each in specified:
        for key in each["spec"]:
            misspelt = copy.deepcopy(each)
            misspelt["spec"][f"{key}z"] = misspelt["spec"].pop(key)
            with pytest.raises(kubernetes_validate.ValidationError):
                kubernetes_validate.validate(misspelt, KUBERNETES, strict=True)
    deployment = copy.deepcopy(next(each for each in objects if each["kind"] == "Deployment"))
    container = container_of(deployment)
    for key in list(container):
        container[f"{key}z"] = container.pop(key)
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(deployment, KUBERNETES, strict=True)
        container[key] = container.pop(f"{key}z")
    kubernetes_validate.validate(deployment, KUBERNETES, strict=True)


def test_both_give_the_server_all_that_it_needs(compose, objects):
    spec = spec_from_file_location("serve", DEPLOYED / "serve.py")
    serve = module_from_spec(spec)
    spec.loader.exec_module(serve)
    (settings,) = [each["data"] for each in objects if each["kind"] == "ConfigMap"]
    (deployment,) = [each for each in objects if each["kind"] == "Deployment"]
    listed = {each["name"]: each["value"] for each in container_of(deployment)["env"]}
    for given in (compose["services"]["server"]["environment"], {**settings, **listed}):
        names = {name.removesuffix("_FILE") for name in given}
        assert set(serve.NEEDED) <= names
        assert {"PGPASSWORD", "MLFLOW_SERVER_ALLOWED_HOSTS", "MLFLOW_UVICORN_OPTS"} <= names
        # the name of the key in compose's own store is no secret
        written = {name for name in given if name in serve.SECRETS} - {"AWS_ACCESS_KEY_ID"}
        assert written == set()


def test_the_secrets_that_they_name_are_those_that_are_made(compose, tmp_path):
    subprocess.run([DEPLOYED / "make_secrets.sh", tmp_path / "made", "example.org"], check=True)
    made = {path.name for path in (tmp_path / "made").iterdir()}
    assert (tmp_path / "made").stat().st_mode & 0o077 == 0
    named = {Path(each["file"]).name for each in compose["secrets"].values()}
    assert named == made
    asked = {name for service in compose["services"].values() for name in service["secrets"]}
    assert asked == set(compose["secrets"])
    paths = re.findall(r"/secrets/([a-z_.]+)", (DEPLOYED / "kubernetes.yaml").read_text())
    assert set(paths) == made - {"store_key"}
    values = [path.read_text().strip() for path in (tmp_path / "made").iterdir()]
    assert len(set(values)) == len(made)
    again = subprocess.run([DEPLOYED / "make_secrets.sh", tmp_path / "made", "a"], check=False)
    assert again.returncode != 0


def test_the_dockerfile_is_free_of_complaints():
    hadolint = Path(sys.executable).with_name("hadolint")
    subprocess.run([hadolint, DEPLOYED / "Dockerfile"], check=True)


def container_of(deployment: dict[str, Any]) -> dict[str, Any]:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return container


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *(("MLFLOW_SERVER_ALLOWED_HOSTS", each) for each in ("*", "a.org, *", "*:5000", "**")),
        ("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", "*"),
        ("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", "https://*"),
    ],
)
def test_a_server_that_would_answer_to_every_name_does_not_start(variable, value):
    given = {"MLFLOW_SERVER_ALLOWED_HOSTS": "a.org,[::1]:5000,::1,10.*", variable: value}
    needed = dict.fromkeys(
        ("PGHOST", "PGDATABASE", "PGUSER", "MLFLOW_FLASK_SERVER_SECRET_KEY"), "x"
    ) | {"MLFLOW_AUTH_ADMIN_PASSWORD": "x", "MLFLOW_ARTIFACTS_DESTINATION": "none"}
    start = (sys.executable, DEPLOYED / "serve.py")
    refused = subprocess.run(start, env=needed | given, capture_output=True, text=True, check=False)
    assert f"{variable} is {value!r}" in refused.stderr
    # the others are names: what comes next is the bucket
    fine = needed | given | {variable: "https://a.org,[::1]:5000,::1,10.*"}
    next_one = subprocess.run(start, env=fine, capture_output=True, text=True, check=False)
    assert "MLFLOW_ARTIFACTS_DESTINATION is 'none'" in next_one.stderr
