"""A hundred odd and hostile files through the guard, scored against a straight decode by FFmpeg.

The corpus comes from shared/odd_videos/make_corpus.py. Every frame of it carries its number as a
bar code of 12 bits, and the generator's timing of the frames is known, so an answer is right or
wrong frame by frame.
"""

import numpy as np
import pytest

from damage import damage_shows
from odd_corpus import (
    BOMBS,
    EVERY_FRAME,
    MAY_BE_ERROR,
    NOT_VIDEOS,
    REQUESTS,
    SOME_BYTES,
    TRAPS,
    UNDAMAGED,
    VALID,
    WHOLE,
    check_frames,
    from_frame,
    on_the_screen,
    read_number,
    seconds_of,
    straight_through,
)
from odd_guard import DEADLINE_S, MEMORY_BYTES, answer, needs_the_maker
from xpool_platform.data.decode_guard import DecodeGuard
from xpool_platform.data.video import VideoError

pytestmark = [pytest.mark.slow, needs_the_maker]

whatever_is_asked = pytest.mark.parametrize("request_name", REQUESTS)


def test_the_groups_are_all_of_the_corpus(corpus):
    groups = [*VALID, *UNDAMAGED, *SOME_BYTES, *NOT_VIDEOS, *TRAPS, *BOMBS, "secret"]
    assert sorted(groups) == sorted(path.name for path in corpus.iterdir())


@pytest.mark.parametrize("name", VALID)
def test_the_oracle_agrees_with_the_generator(corpus, name):
    shown = straight_through(corpus / name)
    if name == "resize_midstream.ts":  # two files end to end
        assert shown.numbers == [*range(45), *range(45)]
        assert shown.times_s == pytest.approx([index / 30 for index in range(90)])
        return
    assert (np.diff(shown.numbers) > 0).all()
    from_first = [seconds_of(name, n) - seconds_of(name, shown.numbers[0]) for n in shown.numbers]
    # FFmpeg rounds a variable rate to whole ticks and pushes what falls on one tick to the next
    tolerance = 1.01 / 30 if name.startswith("vfr") else 1.1e-3
    assert shown.times_s == pytest.approx(from_first, abs=tolerance)


@whatever_is_asked
@pytest.mark.parametrize("name", VALID)
def test_a_valid_file_gives_the_frames_on_the_screen(corpus, guard, name, request_name):
    shown = straight_through(corpus / name)
    request = REQUESTS[request_name]
    segment = request.segment_s(shown)
    video = answer(guard, corpus / name, request.settings(), *segment)
    if name in MAY_BE_ERROR and isinstance(video, VideoError):
        return
    check_frames(name, video, shown, on_the_screen(shown.times_s, request, *segment))


@whatever_is_asked
@pytest.mark.parametrize("name", UNDAMAGED)
def test_a_damaged_file_is_an_error_or_gives_undamaged_frames(corpus, guard, name, request_name):
    request = REQUESTS[request_name]
    shown = whole = straight_through(corpus / UNDAMAGED[name])
    segment = request.segment_s(whole)
    video = answer(guard, corpus / name, request.settings(), *segment)
    if isinstance(video, VideoError):
        return
    if name == "ts_nokey_start.ts":
        first = read_number(video.frames[0], whole.size) - round(30 * video.times_s[0])
        assert first in (8, 30)  # its clock begins with its first whole packet or first key frame
        shown = from_frame(whole, first)
    wanted = on_the_screen(shown.times_s, request, *segment)
    assert len(video.frames) == len(wanted)
    undamaged = answer(guard, corpus / UNDAMAGED[name], EVERY_FRAME)
    for frame, indices in zip(video.frames, wanted, strict=True):
        errors = [
            np.abs(frame.astype(int) - undamaged.frames[shown.numbers[index]]).mean()
            for index in indices
        ]
        if min(errors) > 0.1:
            assert not damage_shows(corpus / name, video.times_s)
            return
    check_frames(name, video, shown, wanted)


@pytest.mark.parametrize("name", [*SOME_BYTES, *NOT_VIDEOS])
def test_what_is_no_video_is_an_error_that_says_so(corpus, guard, name):
    error = answer(guard, corpus / name, WHOLE)
    assert isinstance(error, VideoError)
    # FFmpeg does not tell bytes that never were a video from a video with a broken head
    assert error.kind in (("not-a-video", "damaged") if name in SOME_BYTES else ("not-a-video",))
    assert error.reason


@pytest.mark.parametrize("deadline_s", [5.0, DEADLINE_S])
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_or_decoded_within_its_limits(corpus, name, deadline_s):
    guard = DecodeGuard(deadline_s=deadline_s, memory_bytes=MEMORY_BYTES)
    video = answer(guard, corpus / name, WHOLE)
    if isinstance(video, VideoError):
        assert video.kind in ("too-large", "timeout", "damaged", "unsupported", "crash")
    elif name == "huge_dims_header.mp4":  # its payload is that of the good file
        shown = straight_through(corpus / "ok_h264.mp4")
        check_frames(name, video, shown, on_the_screen(shown.times_s, REQUESTS["whole"]))
    else:
        assert (np.diff(video.times_s) > 0).all()
        assert video.frames.max() < 32
    assert len(answer(guard, corpus / "three_frames.mp4", WHOLE).frames) == 3
    guard.close()
