"""The child that decodes: its limits, its end, and what a hang or a crash costs."""

import subprocess
import sys
from pathlib import Path

import pytest

from videos import read_number, write_video
from xpool_platform.data.decode_guard import DecodeGuard
from xpool_platform.data.video import FrameSettings, VideoError


def settings(**changes) -> FrameSettings:
    defaults = {"decoder": "pyav", "frames_per_second": 3.0, "min_frames": 4, "short_side": 48}
    return FrameSettings(**{**defaults, **changes})


class TestGuard:
    def test_one_child_serves_many_videos(self, tmp_path):
        guard = DecodeGuard(deadline_s=60, memory_bytes=4 * 2**30)
        path = write_video(tmp_path / "a.mp4", 84)
        videos = [guard.decode(str(path), settings()) for _ in range(3)]
        child = guard._child
        assert [read_number(frame) for frame in videos[2].frames] == list(range(3, 84, 7))
        assert child.poll() is None
        guard.close()
        assert child.poll() is not None

    def test_files_of_the_working_directory_are_no_modules(self, tmp_path, monkeypatch):
        path = write_video(tmp_path / "a.mp4", 4)
        (tmp_path / "simplejpeg.py").write_text("raise SystemExit(3)")
        monkeypatch.chdir(tmp_path)
        guard = DecodeGuard(deadline_s=60, memory_bytes=4 * 2**30)
        assert len(guard.decode(str(path), settings()).frames) == 4
        guard.close()

    def test_an_error_comes_back_and_the_child_stays(self, tmp_path):
        guard = DecodeGuard(deadline_s=60, memory_bytes=4 * 2**30)
        (tmp_path / "empty.mp4").touch()
        with pytest.raises(VideoError, match="it is empty") as caught:
            guard.decode(str(tmp_path / "empty.mp4"), settings())
        assert caught.value.kind == "not-a-video"
        assert guard._child.poll() is None
        guard.close()

    def test_a_video_past_its_deadline_costs_one_restart(self, tmp_path):
        slow = write_video(tmp_path / "slow.mp4", 500, size=(640, 480))
        quick = write_video(tmp_path / "quick.mp4", 4)
        guard = DecodeGuard(deadline_s=60, memory_bytes=4 * 2**30)
        guard.decode(str(quick), settings())  # the child has started and imported
        guard.deadline_s = 0.05
        with pytest.raises(VideoError, match=r"not decoded within 0\.05 s") as caught:
            guard.decode(str(slow), settings(frames_per_second=24))
        assert caught.value.kind == "timeout"
        guard.deadline_s = 60
        assert len(guard.decode(str(quick), settings()).frames) == 4
        guard.close()

    def test_a_killed_child_costs_one_video(self, tmp_path):
        path = write_video(tmp_path / "a.mp4", 4)
        guard = DecodeGuard(deadline_s=60, memory_bytes=4 * 2**30)
        guard.decode(str(path), settings())
        guard._child.stdin.write(b"this is no request\n")  # the child dies of it
        with pytest.raises(VideoError, match="the decoder ended with exit status 1") as caught:
            guard.decode(str(path), settings())
        assert caught.value.kind == "crash"
        assert len(guard.decode(str(path), settings()).frames) == 4
        guard.close()

    def test_memory_is_bounded(self, tmp_path):
        path = write_video(tmp_path / "a.mp4", 200, size=(640, 480))
        guard = DecodeGuard(deadline_s=60, memory_bytes=2**30)
        with pytest.raises(VideoError) as caught:
            guard.decode(str(path), settings(frames_per_second=24, short_side=2000))
        assert caught.value.kind in ("too-large", "crash")
        guard.close()

    def test_no_credential_reaches_the_child(self, tmp_path, monkeypatch):
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
        path = write_video(tmp_path / "a.mp4", 4)
        guard = DecodeGuard(deadline_s=60, memory_bytes=4 * 2**30)
        guard.decode(str(path), settings())
        environment = Path(f"/proc/{guard._child.pid}/environ").read_bytes()
        assert b"PATH=" in environment
        assert b"planted-secret" not in environment
        guard.close()

    def test_the_child_ends_with_its_parent(self, tmp_path):
        path = write_video(tmp_path / "a.mp4", 4)
        code = (
            "import os, sys\n"
            "from xpool_platform.data.decode_guard import DecodeGuard\n"
            "from xpool_platform.data.video import FrameSettings\n"
            "guard = DecodeGuard(60, 4 * 2**30)\n"
            "guard.decode(sys.argv[1], FrameSettings(decoder='pyav', frames_per_second=3.0, "
            "min_frames=4, short_side=48))\n"
            "print(guard._child.pid, flush=True)\n"
            "os.kill(os.getpid(), 9)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
        )
        pid = int(done.stdout)
        deadline = 10
        for _ in range(deadline * 20):
            if not Path(f"/proc/{pid}").exists():
                break
            import time

            time.sleep(0.05)
        state = Path(f"/proc/{pid}/stat")
        assert not state.exists() or " Z " in state.read_text()
