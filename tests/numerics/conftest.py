"""The corpus of odd and hostile videos, made once, and a guard to decode it through."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from odd_guard import DEADLINE_S, MAKER, MEMORY_BYTES
from xpool_platform.data.decode_guard import DecodeGuard


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("odd_videos")
    done = subprocess.run(
        [sys.executable, MAKER, folder], capture_output=True, text=True, check=True
    )
    assert "FAILED" not in done.stdout
    return folder


@pytest.fixture(scope="module")
def guard() -> Iterator[DecodeGuard]:
    guard = DecodeGuard(deadline_s=DEADLINE_S, memory_bytes=MEMORY_BYTES)
    yield guard
    guard.close()
