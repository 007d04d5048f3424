"""Traps, floods and hangs: no other file is opened, no connection made, nothing grows or stays."""

import ctypes
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from odd_corpus import (
    EVERY_FRAME,
    REQUESTS,
    TRAPS,
    WHOLE,
    YTCLIPS,
    check_frames,
    on_the_screen,
    read_number,
    straight_through,
)
from odd_guard import DEADLINE_S, MEMORY_BYTES, answer, needs_the_maker
from xpool_platform.data.decode_guard import DecodeGuard
from xpool_platform.data.video import VideoError

pytestmark = [pytest.mark.slow, needs_the_maker]

TRAP_PORT = 18765
"""Where hls_http.mp4 would connect to."""


@contextmanager
def opened_names(*folders: Path) -> Iterator[list[str]]:
    """The names of the files in these folders that any process opens meanwhile."""
    libc = ctypes.CDLL(None, use_errno=True)
    in_open = 0x20
    names: list[str] = []
    watch = libc.inotify_init1(os.O_NONBLOCK)
    assert watch >= 0
    try:
        for folder in folders:
            assert libc.inotify_add_watch(watch, os.fsencode(folder), in_open) >= 0
        yield names
        try:
            events = os.read(watch, 2**16)
        except BlockingIOError:
            return
        while events:
            length = struct.unpack_from("iIII", events)[3]
            name = os.fsdecode(events[16 : 16 + length].rstrip(b"\0"))
            names.extend([name] if name else [])
            events = events[16 + length :]
    finally:
        os.close(watch)


@contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", TRAP_PORT))
        listener.listen()
        listener.setblocking(False)
        yield listener


OPENS_ALL = """
import sys
import av
options = {"allowed_extensions": "ALL", "extension_picky": "0", "safe": "0", "timeout": "1000000"}
options["protocol_whitelist"] = "file,crypto,data,http,tcp,concat"
try:
    av.open(sys.argv[1], format=sys.argv[2], options=options, timeout=2.0).close()
except av.FFmpegError as error:
    print(error)
"""
"""A reader that walks into the traps, to show that the watch would see it."""


def test_the_watch_sees_a_reader_that_walks_into_the_traps(corpus):
    def walk_in(name: str, format_name: str) -> None:
        subprocess.run([sys.executable, "-c", OPENS_ALL, corpus / name, format_name], check=True)

    for name, format_name in (("hls_abs.mp4", "hls"), ("ffconcat_rel.mp4", "concat")):
        with opened_names(corpus, corpus / "secret") as names:
            walk_in(name, format_name)
        assert name in names
        assert any(name.startswith("secret_video") for name in names)
    with listening() as listener:
        walk_in("hls_http.mp4", "hls")
        listener.accept()[0].close()


@pytest.mark.parametrize("name", TRAPS)
def test_a_trap_opens_no_other_file_and_no_connection(corpus, guard, name):
    with listening() as listener, opened_names(corpus, corpus / "secret") as names:
        error = answer(guard, corpus / name, WHOLE)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert isinstance(error, VideoError)
    assert set(names) == {name}
    assert "TOPSECRET" not in error.reason


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_a_name_is_never_a_protocol(corpus, monkeypatch, decoder):
    monkeypatch.chdir(corpus)
    guard = DecodeGuard(deadline_s=DEADLINE_S, memory_bytes=MEMORY_BYTES)
    settings = replace(WHOLE, decoder=decoder)
    secret = "secret/secret_video.ts"
    with listening() as listener, opened_names(corpus / "secret") as names:
        for name in (f"http://127.0.0.1:{TRAP_PORT}/ssrf.ts", f"concat:{secret}", f"file:{secret}"):
            assert isinstance(answer(guard, name, settings), VideoError)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert names == []
    if decoder == "pyav":
        assert len(answer(guard, "file:colon.mp4", settings).frames) == 3
    guard.close()


DECODES_ALL = """
import json, sys
from xpool_platform.data.decode_guard import DecodeGuard
from xpool_platform.data.video import FrameSettings, VideoError
guard = DecodeGuard(deadline_s=60, memory_bytes=4 * 2**30)
settings = FrameSettings(decoder="pyav", frames_per_second=3.0, min_frames=12, short_side=120)
outcomes = []
for path in sys.argv[1:]:
    try:
        outcomes.append(len(guard.decode(path, settings).frames))
    except VideoError as error:
        outcomes.append(error.kind)
guard.close()
print(json.dumps(outcomes))
"""


@pytest.mark.skipif(not shutil.which("strace"), reason="there is no strace")
def test_the_kernel_sees_no_other_file_and_no_socket_of_the_traps(corpus, tmp_path):
    log_path = tmp_path / "strace.log"
    paths = [str(corpus / name) for name in ("three_frames.mp4", *TRAPS)]
    command = ["strace", "-f", "-qq", "-e", "trace=open,openat,openat2,connect,socket,bind"]
    done = subprocess.run(
        [*command, "-o", log_path, sys.executable, "-c", DECODES_ALL, *paths],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    if "ptrace" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr[:200]}")
    outcomes = json.loads(done.stdout)
    assert outcomes[0] == 3
    assert all(isinstance(outcome, str) for outcome in outcomes[1:])
    log = log_path.read_text(errors="replace")
    opened = set(re.findall(rf'open\w*\([^"]*"({re.escape(str(corpus))}[^"]*)"', log))
    assert opened == set(paths)
    assert not re.findall(r"(?:socket|connect|bind)\([^)]*AF_INET.*", log)


@pytest.mark.parametrize("name", ["ok_720p.mp4", "bitflip_00.mp4", "hls_abs.mp4"])
def test_memory_stays_flat(corpus, name):
    guard = DecodeGuard(deadline_s=DEADLINE_S, memory_bytes=MEMORY_BYTES)
    resident_bytes = []
    for _ in range(30):
        is_error = isinstance(answer(guard, corpus / name, WHOLE), VideoError)
        assert is_error == (name != "ok_720p.mp4")
        resident_bytes.append(psutil.Process(guard._child.pid).memory_info().rss)
    guard.close()
    assert max(resident_bytes[5:]) - max(resident_bytes[:5]) < 16 * 2**20


@pytest.mark.parametrize("name", ["ok_h264.mp4", *YTCLIPS])
def test_whatever_decord_does_the_guard_comes_back(corpus, name):
    pytest.importorskip("decord")
    guard = DecodeGuard(deadline_s=5.0, memory_bytes=MEMORY_BYTES)
    # decord 0.6 hangs on each of the ytclips when it is asked for 400 of what it takes for more
    video = answer(guard, corpus / name, replace(EVERY_FRAME, decoder="decord", min_frames=400))
    if name == "ok_h264.mp4":
        assert [read_number(frame, (320, 240)) for frame in video.frames] == list(range(300))
    elif isinstance(video, VideoError):
        assert video.kind in ("timeout", "damaged", "crash", "too-large")
    shown = straight_through(corpus / "ok_h264.mp4")
    video = answer(guard, corpus / "ok_h264.mp4", WHOLE)
    check_frames("ok_h264.mp4", video, shown, on_the_screen(shown.times_s, REQUESTS["whole"]))
    guard.close()
