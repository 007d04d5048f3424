"""Frames that are not kept: decoded again at each use, as they were the first time."""

import pytest

from videos import read_number, write_video
from xpool_platform.data.decode_guard import process_guard
from xpool_platform.data.kept_frames import Decoding, load_frames
from xpool_platform.data.video import FrameSettings
from xpool_platform.errors import UserError

SETTINGS = FrameSettings(decoder="pyav", frames_per_second=3, min_frames=4, short_side=96)


@pytest.fixture(scope="module")
def decoding(tmp_path_factory) -> Decoding:
    path = write_video(tmp_path_factory.mktemp("videos") / "a: 1%.mp4", 84)
    return Decoding(
        path=str(path),
        start_s=1.0,
        end_s=3.0,
        settings=SETTINGS,
        deadline_s=20,
        memory_bytes=4 * 2**30,
    )


def test_a_uri_holds_all_that_decoding_needs(decoding):
    assert Decoding.of_uri(decoding.uri()) == decoding


def test_frames_are_those_of_the_decoder_in_the_order_asked_for(decoding):
    video = process_guard(20, 4 * 2**30).decode(decoding.path, SETTINGS, 1.0, 3.0)
    frames = load_frames(decoding.uri(), [4, 0, 0])
    assert (frames == video.frames[[4, 0, 0]]).all()
    assert [read_number(frame) for frame in frames] == [52, 24, 24]


def test_a_video_that_is_gone_or_changed_is_named(decoding):
    with pytest.raises(UserError, match=r"a: 1%\.mp4 has changed .* gives 6 frames .* at least 10"):
        load_frames(decoding.uri(), [3, 9])
    gone = decoding.uri().replace("a: 1%", "b")
    with pytest.raises(UserError, match=r"b\.mp4 was decoded before and now cannot be \(not-a-"):
        load_frames(gone, [0])
