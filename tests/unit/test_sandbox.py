"""What the process that decodes can no longer do, tried in it."""

import json
import os
import platform
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

TRIES = """
import json, os, socket, subprocess, sys
from xpool_platform.data.sandbox import give_up_rights

def tried(do):
    try:
        do()
    except OSError as error:
        return type(error).__name__
    return "done"

def connect():
    socket.create_connection(("127.0.0.1", int(sys.argv[2])), timeout=5).close()

def all_tries():
    return {
        "write": tried(lambda: open(sys.argv[1] + "/new", "w").close()),
        "change": tried(lambda: open(sys.argv[1] + "/there", "r+").close()),
        "remove": tried(lambda: os.remove(sys.argv[1] + "/there")),
        "run": tried(lambda: subprocess.run(["/bin/true"], check=True)),
        "connect": tried(connect),
        "environment": tried(lambda: open(f"/proc/{os.getppid()}/environ", "rb").read()),
        "read": tried(lambda: open(sys.argv[1] + "/read", "rb").read()),
    }

if sys.argv[3] == "bound" and not give_up_rights():
    sys.exit(77)
print(json.dumps(all_tries()))
"""


def tries(folder: Path, how: str) -> dict[str, str]:
    for name in ("there", "read"):
        (folder / name).touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-c", TRIES, str(folder), port, how],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PLANTED": "secret"},
        )
    if done.returncode == 77:
        pytest.skip("this kernel has no Landlock")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_rights_are_given_up(tmp_path):
    free = tries(tmp_path, "free")
    assert set(free.values()) == {"done"}
    bound = tries(tmp_path, "bound")
    assert bound.pop("read") == "done"
    if tuple(map(int, re.findall(r"\d+", platform.release())[:2])) < (6, 7):
        bound.pop("connect")  # what Landlock held later
    assert set(bound.values()) == {"PermissionError"}
    assert (tmp_path / "there").exists()
