import os
import subprocess
import sys

import pytest

from xpool_platform.ray_token import ensure_private_token


@pytest.fixture
def token(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / ".ray" / "auth_token"


def test_a_token_is_made_once_for_its_owner_alone(token):
    ensure_private_token()
    made = token.read_text()
    assert len(made) == 64
    assert token.stat().st_mode & 0o777 == 0o600
    assert token.parent.stat().st_mode & 0o077 == 0
    ensure_private_token()
    assert token.read_text() == made
    command = (sys.executable, "-m", "ray.scripts.scripts", "get-auth-token")
    assert subprocess.check_output(command, text=True).strip() == made


def test_one_that_a_killed_process_left_empty_is_made_again(token):
    token.parent.mkdir()
    token.touch()
    ensure_private_token()
    assert len(token.read_text()) == 64
    assert token.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in token.parent.iterdir()] == ["auth_token"]


def test_one_that_others_can_read_is_closed(token):
    token.parent.mkdir()
    token.write_text("0" * 64)
    token.chmod(0o644)
    ensure_private_token()
    assert token.stat().st_mode & 0o777 == 0o600
    assert token.read_text() == "0" * 64


@pytest.mark.parametrize(
    "given", [{"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "x"}, {"RAY_AUTH_TOKEN_PATH": "/x"}]
)
def test_what_the_user_has_set_is_left_alone(token, monkeypatch, given):
    monkeypatch.setattr(os, "environ", os.environ | given)
    ensure_private_token()
    assert not token.exists()
