"""Both decoders, on real files whose frames tell their own numbers."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from videos import numbered_frame, read_number, write_video
from xpool_platform.data import pyav_decoder, pyav_file
from xpool_platform.data.decode_child import decode
from xpool_platform.data.packets import PacketTable, leading_packets, packets_to_decode
from xpool_platform.data.pyav_file import opened_video, read_packets
from xpool_platform.data.video import FrameSettings, VideoError, choose_frames, scaled_size

CLIPS = Path(__file__).parents[3] / "shared" / "clips"
needs_clips = pytest.mark.skipif(
    not CLIPS.is_dir(), reason="the folder of real clips is not beside this checkout"
)


def settings(**changes) -> FrameSettings:
    defaults = {"decoder": "pyav", "frames_per_second": 3.0, "min_frames": 4, "short_side": 48}
    return FrameSettings(**{**defaults, **changes})


def decoded(path: Path, start_s=None, end_s=None, **changes):
    video = decode(str(path), settings(**changes), start_s, end_s, keep=lambda picture: picture)
    assert len(video.frames) == len(video.times_s)
    return video


def numbers(path: Path, start_s=None, end_s=None, **changes) -> list[int]:
    return [read_number(frame) for frame in decoded(path, start_s, end_s, **changes).frames]


both_decoders = pytest.mark.parametrize("decoder", ["pyav", "decord"])


def test_the_numbers_can_be_read():
    assert [read_number(numbered_frame(n)) for n in (0, 1, 600, 1023)] == [0, 1, 600, 1023]


@both_decoders
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_the_frame_on_the_screen_at_the_centre_of_each_part(tmp_path, decoder, name):
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    path = write_video(tmp_path / name, 84, codec=codec)  # 4 s: 12 parts of 7 frames
    assert numbers(path, decoder=decoder) == list(range(3, 84, 7))


@both_decoders
def test_b_frames_do_not_change_the_order(tmp_path, decoder):
    path = write_video(tmp_path / "b.mp4", 84, options={"bf": "3", "g": "84"})
    assert numbers(path, decoder=decoder) == list(range(3, 84, 7))


@both_decoders
def test_a_variable_frame_rate_is_sampled_by_time(tmp_path, decoder):
    ticks = [*range(21), *range(21, 84, 7)]  # 21 frames in the first second, 3 in each later one
    path = write_video(tmp_path / "vfr.mp4", len(ticks), ticks=ticks)
    video = decoded(path, decoder=decoder)
    got = [read_number(frame) for frame in video.frames]
    parts = len(got)
    end = ticks[-1] + np.median(np.diff(ticks))
    centres = (np.arange(parts) + 0.5) * end / parts
    assert parts == round(3 * end / 21)
    assert got == [int(np.searchsorted(ticks, centre, side="right")) - 1 for centre in centres]
    assert sum(number < 21 for number in got) <= 4


@both_decoders
def test_a_segment(tmp_path, decoder):
    path = write_video(tmp_path / "a.mp4", 84)
    assert numbers(path, 1.0, 2.0, decoder=decoder, min_frames=3) == [24, 31, 38]
    assert numbers(path, 3.0, None, decoder=decoder, min_frames=3) == [66, 73, 80]
    with pytest.raises(VideoError, match=r"start_s 9 is after its end at 4\.00 s"):
        numbers(path, 9.0, None, decoder=decoder)


@both_decoders
@pytest.mark.parametrize("num_frames", [1, 3])
def test_a_short_video_gives_each_of_its_frames(tmp_path, decoder, num_frames):
    path = write_video(tmp_path / "short.mp4", num_frames)
    assert numbers(path, decoder=decoder) == list(range(num_frames))


@both_decoders
def test_the_short_side_is_scaled_and_the_shape_kept(tmp_path, decoder):
    path = write_video(tmp_path / "a.mp4", 8, size=(160, 96))
    assert np.stack(decoded(path, decoder=decoder).frames).shape == (4, 48, 80, 3)
    portrait = write_video(tmp_path / "p.mp4", 8, size=(96, 160))
    frames = np.stack(decoded(portrait, decoder=decoder).frames)
    assert frames.shape == (4, 80, 48, 3)


def test_files_that_are_no_videos_say_so(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "page.mp4").write_text("<!DOCTYPE html><title>404</title>" * 50)
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "dangling.mp4").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.mp4")
    target = write_video(tmp_path / "target.mp4", 8)
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile {target}\n")
    (tmp_path / "hls.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n")
    for name, reason in (
        ("empty", "it is empty"),
        ("page", "not-a-video: it is a text"),
        ("folder", "not a regular file"),
        ("dangling", "No such file"),
        ("pipe", "not a regular file"),
        ("list", "it is a text"),
        ("hls", "it is a text"),
    ):
        with pytest.raises(VideoError, match=reason):
            decoded(tmp_path / f"{name}.mp4")


def test_a_damaged_video_is_an_error_and_never_wrong_frames(tmp_path):
    whole = write_video(tmp_path / "a.mp4", 240)
    content = whole.read_bytes()
    rng = np.random.default_rng(0)
    start = content.index(b"mdat") + 4
    outcomes = []
    for i in range(20):
        broken = bytearray(content)
        for at in rng.integers(start, len(content), size=30):
            broken[at] ^= 1 << rng.integers(8)
        path = tmp_path / f"broken_{i}.mp4"
        path.write_bytes(broken)
        try:
            outcomes.append(numbers(path))
        except VideoError as error:
            outcomes.append(error.kind)
    right = numbers(whole)
    assert all(outcome in ("damaged", right) for outcome in outcomes)
    assert outcomes.count("damaged") > 10


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_truncated_video_says_how_much_is_there(tmp_path, name):
    whole = write_video(tmp_path / name, 240)
    cut = tmp_path / f"cut_{name}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(VideoError) as caught:
        numbers(cut)
    assert caught.value.kind == "truncated"


GROUPS = {"g": "12", "keyint_min": "12", "sc_threshold": "0"}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(GROUPS, id="closed groups"),
        pytest.param({**GROUPS, "bf": "3"}, id="b-frames"),
        pytest.param({**GROUPS, "bf": "3", "x264-params": "open-gop=1"}, id="open groups"),
        pytest.param({"g": "999", "bf": "3"}, id="one group"),
    ],
)
@pytest.mark.parametrize("rate", [0.1, 3.0, 21.0])
def test_decoding_only_what_is_needed_gives_the_frames_of_decoding_all(
    tmp_path, monkeypatch, options, rate
):
    path = write_video(tmp_path / "a.mp4", 240, options=options)
    wanted = decoded(path, frames_per_second=rate, min_frames=7)
    monkeypatch.setattr(pyav_decoder, "packets_to_decode", lambda *_: [])
    through = decoded(path, frames_per_second=rate, min_frames=7)
    assert [read_number(f) for f in through.frames] == [read_number(f) for f in wanted.frames]
    assert (np.stack(through.frames) == np.stack(wanted.frames)).all()


def test_packets_that_are_not_held_are_read_again(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", 84)
    monkeypatch.setattr(pyav_file, "MAX_HELD_BYTES", 100)
    monkeypatch.setattr(pyav_decoder, "_decoded_times", None)  # no falling back
    assert numbers(path) == list(range(3, 84, 7))


def test_the_needed_packets_by_hand():
    # decoding order of two open groups: I0 P3 B1 B2 | I6 B4 B5 P9 B7 B8
    pts = np.array([0, 3, 1, 2, 6, 4, 5, 9, 7, 8])
    keys = np.array([1, 0, 0, 0, 1, 0, 0, 0, 0, 0], bool)
    table = PacketTable(pts, keys, np.ones(10, bool))
    assert packets_to_decode(table, [2]) == [range(4)]
    assert packets_to_decode(table, [0, 3]) == [range(2)]
    assert packets_to_decode(table, [6]) == [range(4, 5)]
    assert packets_to_decode(table, [5]) == [range(7)]  # it may refer to the first group
    assert packets_to_decode(table, [0, 9]) == [range(1), range(4, 8)]
    assert leading_packets(table, range(4, 8)) == [5, 6]
    assert leading_packets(table, range(7)) == []
    late = PacketTable(pts, np.array([0] * 4 + [1] + [0] * 5, bool), table.is_shown)
    assert packets_to_decode(late, [1, 7]) == [range(4, 9)]  # nothing before the first key frame


def test_only_the_groups_of_wanted_frames_are_decoded(tmp_path):
    path = write_video(tmp_path / "a.mp4", 600, options={**GROUPS, "bf": "0"})
    with opened_video(str(path)) as (container, stream):
        table, packets = read_packets(container, stream)
        wanted = table.shown_pts()[[14, 301]].tolist()
        frames = [frame.pts for frame in pyav_decoder._needed_frames(packets, table, wanted)]
    assert table.shown_pts()[[*range(12, 15), *range(300, 302)]].tolist() == frames


def test_frames_are_chosen_by_time():
    times = np.arange(10) / 10.0
    chosen = choose_frames(times, settings(frames_per_second=5.0), None, None)
    assert chosen == [1, 3, 5, 7, 9]
    assert choose_frames(times, settings(min_frames=12), None, None) == list(range(10))
    assert choose_frames(times[:1], settings(), None, None) == [0]
    assert choose_frames(times, settings(), 0.5, 0.7) == [5, 6]
    assert choose_frames(times, settings(), 0.55, 0.56) == [5]


def test_sizes_keep_their_proportion():
    assert scaled_size(1920, 1080, 224) == (398, 224)
    assert scaled_size(100, 400, 50) == (50, 200)


@needs_clips
def test_the_real_clips_all_decode():
    with (CLIPS / "captions.csv").open(newline="") as file:
        names = sorted({row["video"] for row in csv.DictReader(file)})
    assert len(names) == 15
    for name in names:
        video = decoded(CLIPS / name, min_frames=12)
        assert len(video.frames) >= 12
        assert np.std(video.frames) > 5
        assert (np.diff(video.times_s) > 0).all()


@needs_clips
@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("av1_video.mkv", (48, 85)),
        ("corrupted.mp4", "damaged"),
        ("rot90_video_90.mov", (85, 48)),
        ("rot180_video_180.mov", (48, 85)),
        ("h264_10bits.mp4", (48, 48)),
        ("vfr.mp4", (48, 59)),
        ("one_frame.mp4", (48, 59)),
        ("three_frames.mp4", (48, 59)),
        ("odd_dims_gray_const.mp4", (48, 64)),
        ("audio_only.mp4", "not-a-video"),
        ("truncated_half.mp4", "truncated"),
        ("zero_bytes.mp4", "not-a-video"),
        ("html_error_page.mp4", "not-a-video"),
    ],
)
def test_the_odd_clips(name, outcome):
    path = CLIPS / "edge" / name
    if isinstance(outcome, tuple):
        assert {f.shape[:2] for f in decoded(path, min_frames=12).frames} == {outcome}
    else:
        with pytest.raises(VideoError) as caught:
            decoded(path, min_frames=12)
        assert caught.value.kind == outcome
