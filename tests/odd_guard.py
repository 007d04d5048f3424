"""The limits under which odd videos are decoded, and the answer that must come within them."""

import time
from pathlib import Path

import pytest

from xpool_platform.data.decode_guard import DecodeGuard
from xpool_platform.data.video import DecodedVideo, FrameSettings, VideoError

MAKER = Path(__file__).parents[2] / "shared" / "odd_videos" / "make_corpus.py"
needs_the_maker = pytest.mark.skipif(
    not MAKER.is_file(), reason="the maker of odd videos is not beside this checkout"
)

DEADLINE_S = 60.0
MARGIN_S = 5.0
"""Over a deadline: a child's start and a busy machine."""
MEMORY_BYTES = 4 * 2**30


def answer(
    guard: DecodeGuard,
    path: Path | str,
    settings: FrameSettings,
    start_s: float | None = None,
    end_s: float | None = None,
) -> DecodedVideo | VideoError:
    """What the guard gives or raises, which must be there by its deadline."""
    began = time.monotonic()
    try:
        return guard.decode(str(path), settings, start_s, end_s)
    except VideoError as error:
        return error
    finally:
        assert time.monotonic() - began < guard.deadline_s + MARGIN_S
