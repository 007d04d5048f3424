"""platform/deploy/Dockerfile, as far as it can be checked without building it."""

import fnmatch
import re
import subprocess
import sys
from pathlib import Path

import pathspec
import pytest

CHECKOUT = Path(__file__).parents[2]
DOCKERFILE = CHECKOUT / "platform/deploy/Dockerfile"
HADOLINT = Path(sys.executable).parent / "hadolint"


def instructions(dockerfile=DOCKERFILE):
    """(name, rest) of each instruction, its lines joined."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line]


def lint(text):
    return subprocess.run(
        [HADOLINT, "-"], input=text, text=True, capture_output=True, check=False
    ).stdout


@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint is not installed")
def test_the_dockerfile_has_no_lint():
    text = DOCKERFILE.read_text()
    assert lint(text) == ""
    assert "DL3002" in lint(text.replace("USER 1000:1000", "USER 0:0"))
    assert lint(text.replace("WORKDIR", "WORKDIRS"))


def test_the_base_is_pinned_by_its_digest():
    given = dict(instructions())
    assert re.fullmatch(r"PYTHON=python:3\.11\.\d+-[a-z-]+@sha256:[0-9a-f]{64}", given["ARG"])
    froms = [rest.split() for name, rest in instructions() if name == "FROM"]
    assert [(base, stage) for base, _, stage in froms] == [
        ("${PYTHON}", "packages"),
        ("${PYTHON}", "cpu"),
        ("cpu", "cuda"),
    ]


def test_both_images_run_as_nobody_in_particular():
    stages = re.split(r"^FROM .* AS (\w+)\n", DOCKERFILE.read_text(), flags=re.MULTILINE)
    for stage in ("cpu", "cuda"):
        body = stages[stages.index(stage) + 1]
        assert re.findall(r"^USER (.*)$", body, flags=re.MULTILINE)[-1] == "1000:1000"


def test_packages_are_installed_by_their_hashes():
    installs = [rest for name, rest in instructions() if name == "RUN" and "requirements" in rest]
    [install] = installs
    assert install.count("--require-hashes") == 2
    lock = (CHECKOUT / "requirements.lock").read_text()
    block = subprocess.check_output(
        ["sed", "-n", r"/^uv==/,/[^\\]$/p"], input=lock, text=True
    ).splitlines()
    assert block[0].startswith("uv==")
    assert all(line.strip().startswith("--hash=") for line in block[1:])


def goes_to_the_engine(path):
    """By .dockerignore, whose last pattern that fits a path, or a folder above it, decides."""
    goes = True
    above = ["/".join(path.split("/")[: end + 1]) for end in range(path.count("/") + 1)]
    for line in (CHECKOUT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if line and not line.startswith("#") and any(fnmatch.fnmatch(p, pattern) for p in above):
            goes = line.startswith("!")
    return goes


@pytest.mark.parametrize("dockerfile", [DOCKERFILE, DOCKERFILE.parent / "mlflow" / "Dockerfile"])
def test_what_is_copied_is_there_and_goes_to_the_engine(dockerfile):
    copies = [
        rest.split()
        for name, rest in instructions(dockerfile)
        if name == "COPY" and "--from" not in rest
    ]
    assert copies
    for *sources, _ in copies:
        for source in sources:
            assert (CHECKOUT / source).exists()
            assert goes_to_the_engine(source), source


@pytest.mark.parametrize(
    "path",
    [
        *(".git/config", "outputs/mlflow.db", "tests/conftest.py", ".venv/bin/python"),
        *("platform/deploy/mlflow/secrets/admin_password", "secrets/tls.key", "cluster.yaml"),
    ],
)
def test_nothing_else_goes_to_the_engine(path):
    assert not goes_to_the_engine(path)


@pytest.mark.parametrize(
    "name",
    [
        *("platform/deploy/mlflow/secrets/admin_password", "secrets/tls.key", "ca.key", "s3.env"),
        *("outputs/mlflow.db", ".venv/bin/python"),
    ],
)
def test_what_is_secret_or_large_goes_neither_to_git_nor_to_the_nodes(name):
    ignored = subprocess.run(["git", "check-ignore", "-q", name], cwd=CHECKOUT, check=False)
    if (CHECKOUT / ".git").exists():
        assert ignored.returncode == 0
    excluded = (CHECKOUT / ".rayignore").read_text().splitlines()
    assert pathspec.GitIgnoreSpec.from_lines(excluded).match_file(name)


def test_each_step_is_one_that_the_shell_can_read():
    for name, rest in instructions():
        if name == "RUN":
            subprocess.run(["sh", "-n"], input=rest, text=True, check=True)
