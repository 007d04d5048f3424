"""A writer of a frame store as a process, for tests that kill it: FOLDER STORE."""

import sys
from pathlib import Path

from xpool_platform.data.decode_guard import DecodeGuard
from xpool_platform.data.frame_store import frames_uri, stored_videos, video_name, write_frames
from xpool_platform.data.video import FrameSettings

SETTINGS = FrameSettings(decoder="pyav", frames_per_second=3.0, min_frames=16, short_side=48)


def say(what: str) -> None:
    """Tell whoever started this process how far it is."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def fill(folder: Path, store: str) -> None:
    """Decode what is not in the store yet."""
    guard = DecodeGuard(deadline_s=60, memory_bytes=4 * 2**30)
    paths = {video_name(str(path), None, None): str(path) for path in sorted(folder.iterdir())}
    there = stored_videos(store, list(paths))
    say("begun")
    for name, path in paths.items():
        if name not in there:
            write_frames(frames_uri(store, name), guard.encode(path, SETTINGS))
            say("written")
    guard.close()


if __name__ == "__main__":
    fill(Path(sys.argv[1]), sys.argv[2])
