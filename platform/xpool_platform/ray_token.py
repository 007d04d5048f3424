"""The token of Ray on this machine, which is its owner's alone."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

ELSEWHERE = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
NUM_BYTES = 32


def ensure_private_token() -> None:
    """Make ~/.ray/auth_token where there is none, and close it to others where there is one.

    Ray makes it by itself, but readable by everyone on the machine, who could then run code as its
    owner. Where it cannot be made, Ray says so.
    """
    mode = os.environ.get("RAY_AUTH_MODE", "token").lower()
    if mode != "token" or any(name in os.environ for name in ELSEWHERE):
        return
    path = Path.home() / ".ray" / "auth_token"
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if path.is_file():
            if path.stat().st_size:
                path.chmod(0o600)
                return
            path.unlink()  # left by a process that was killed
        whole = path.with_name(f".{secrets.token_hex(4)}")
        descriptor = os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(NUM_BYTES))
        try:
            os.link(whole, path)  # of two jobs that begin at once the first one's stays
        except FileExistsError:
            pass
        finally:
            whole.unlink()
