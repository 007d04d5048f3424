"""Decoding in a child process: a hang or a crash costs one video and one restart."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import xpool
import xpool_platform
from xpool_platform.data.video import DecodedVideo, EncodedVideo, FrameSettings, VideoError

KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")
"""The child's environment, so that no credential is in it."""


class DecodeGuard:
    """A persistent child process that decodes one video at a time."""

    def __init__(self, deadline_s: float, memory_bytes: int) -> None:
        self.deadline_s = deadline_s
        self.memory_bytes = memory_bytes
        self._child: subprocess.Popen[bytes] | None = None

    def decode(
        self,
        path: str,
        settings: FrameSettings,
        start_s: float | None = None,
        end_s: float | None = None,
    ) -> DecodedVideo:
        """The frames of a video, or VideoError, at the latest when the deadline is over."""
        reply, read = self._ask(path, settings, start_s, end_s, as_jpeg=False)
        frames, times = read(sum(reply["sizes"])), read(8 * len(reply["sizes"]))
        return DecodedVideo(
            frames=np.frombuffer(frames, np.uint8).reshape(-1, *reply["shape"]),
            times_s=np.frombuffer(times, "<f8"),
        )

    def encode(
        self,
        path: str,
        settings: FrameSettings,
        start_s: float | None = None,
        end_s: float | None = None,
    ) -> EncodedVideo:
        """The frames of a video as JPEG files, or VideoError; otherwise as `decode`."""
        reply, read = self._ask(path, settings, start_s, end_s, as_jpeg=True)
        return EncodedVideo(
            jpegs=[read(size) for size in reply["sizes"]],
            times_s=np.frombuffer(read(8 * len(reply["sizes"])), "<f8"),
            duration_s=reply["duration_s"],
        )

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {key: os.environ[key] for key in KEPT_VARIABLES if key in os.environ}
        roots = [Path(package.__file__ or "").parents[1] for package in (xpool, xpool_platform)]
        environment["PYTHONPATH"] = os.pathsep.join(map(str, roots))
        environment["OMP_NUM_THREADS"] = environment["OPENBLAS_NUM_THREADS"] = "1"
        module = "xpool_platform.data.decode_child"
        return subprocess.Popen(
            # -P: a file in the working directory is no module of ours
            [sys.executable, "-P", "-m", module, str(self.memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )

    def _ask(
        self,
        path: str,
        settings: FrameSettings,
        start_s: float | None,
        end_s: float | None,
        *,
        as_jpeg: bool,
    ) -> tuple[dict[str, Any], Callable[[int], bytes]]:
        """The head of the child's reply, and what reads the bytes after it."""
        if self._child is None or self._child.poll() is not None:
            self._child = self._start()
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        replies = self._child.stdout
        request = {
            "path": path,
            "settings": asdict(settings),
            "start_s": start_s,
            "end_s": end_s,
            "deadline_s": self.deadline_s,
            "as_jpeg": as_jpeg,
        }

        def read(num_bytes: int) -> bytes:
            content = replies.read(num_bytes)
            if len(content) < num_bytes:
                raise self._end_of_child()
            return content

        try:
            self._child.stdin.write(json.dumps(request).encode() + b"\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            raise self._end_of_child() from None
        line = replies.readline()
        if not line.endswith(b"\n"):
            raise self._end_of_child()
        reply = json.loads(line)
        if "kind" in reply:
            raise VideoError(reply["kind"], reply["reason"])
        return reply, read

    def _end_of_child(self) -> VideoError:
        assert self._child is not None
        code = self._child.wait()
        self.close()
        if code == -signal.SIGALRM:
            return VideoError("timeout", f"not decoded within {self.deadline_s:g} s")
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return VideoError("crash", f"the decoder ended with {how}")


@cache
def process_guard(deadline_s: float, memory_bytes: int) -> DecodeGuard:
    """The guard of this process, one for all the videos that it decodes."""
    return DecodeGuard(deadline_s, memory_bytes)
