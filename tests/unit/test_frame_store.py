"""Frame stores: whole or not there, whatever happens to the writers, on disks and in S3."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import fill_store
import numpy as np
import pyarrow.parquet as pq
import pytest

from object_store import served_bucket
from videos import read_number, write_video
from xpool_platform import locations
from xpool_platform.data import store_catalogue
from xpool_platform.data.frame_store import (
    frames_uri,
    read_frames,
    stored_videos,
    video_name,
    write_frames,
)
from xpool_platform.data.store_catalogue import list_stores, open_store, prune_stores
from xpool_platform.data.video import EncodedVideo, FrameSettings, kept_at_least
from xpool_platform.errors import UserError

SETTINGS = fill_store.SETTINGS
JPEG_SIZE = (32, 48)


@pytest.fixture(scope="module")
def video():
    import simplejpeg

    rng = np.random.default_rng(0)
    pictures = [np.full((*JPEG_SIZE, 3), rng.integers(0, 256, 3), np.uint8) for _ in range(5)]
    jpegs = [simplejpeg.encode_jpeg(picture, quality=95) for picture in pictures]
    return EncodedVideo(jpegs=jpegs, times_s=np.arange(5) / 3, duration_s=1.7)


@pytest.fixture(scope="module")
def s3():
    with served_bucket("frames") as uri:
        yield uri


def test_frames_come_back_by_index_in_any_order(tmp_path, video):
    check_frames_come_back(str(tmp_path / "store"), video)
    names = [path.name for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert names == ["abc.parquet"]


def test_an_object_store_does_the_same(s3, video):
    check_frames_come_back(f"{s3}/store", video)


def check_frames_come_back(store, video):
    assert stored_videos(store, ["abc", "abd"]) == {}
    uri = frames_uri(store, "abc")
    write_frames(uri, video)
    (found,) = stored_videos(store, ["abc", "abd"]).values()
    assert (found.num_frames, found.duration_s) == (5, 1.7)
    frames = read_frames(uri, range(5))
    assert frames.shape == (5, *JPEG_SIZE, 3)
    assert (read_frames(uri, [3, 0, 3]) == frames[[3, 0, 3]]).all()
    assert len(np.unique(frames[:, 0, 0], axis=0)) == 5


def test_the_file_is_parquet_with_times(tmp_path, video):
    uri = frames_uri(str(tmp_path), "abc")
    write_frames(uri, video)
    table = pq.read_table(uri)
    assert table["time_s"].to_pylist() == video.times_s.tolist()
    assert table["jpeg"].to_pylist() == video.jpegs


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_cut_file_counts_as_missing_and_names_itself_when_read(tmp_path, video, share):
    uri = frames_uri(str(tmp_path), "abc")
    write_frames(uri, video)
    content = Path(uri).read_bytes()
    Path(uri).write_bytes(content[: int(len(content) * share)])
    assert stored_videos(str(tmp_path), ["abc"]) == {}
    with pytest.raises(UserError, match=r"abc\.parquet cannot be read .* remove that file"):
        read_frames(uri, [0])


def test_a_flipped_bit_is_never_a_picture(tmp_path, video):
    uri = frames_uri(str(tmp_path), "abc")
    write_frames(uri, video)
    content = bytearray(Path(uri).read_bytes())
    content[content.index(video.jpegs[2]) + 40] ^= 1
    Path(uri).write_bytes(content)
    with pytest.raises(UserError, match=r"abc\.parquet cannot be read"):
        read_frames(uri, [2])


def test_a_write_that_fails_leaves_nothing(tmp_path, video, monkeypatch):
    class Full:
        type_name = "local"

        def __getattr__(self, name):
            return getattr(locations.pafs.LocalFileSystem(), name)

        def move(self, *_):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(locations, "filesystem_of", lambda location: (Full(), location))
    with pytest.raises(OSError, match="No space left"):
        write_frames(frames_uri(str(tmp_path), "abc"), video)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_unknown_place_is_a_clear_error(video):
    with pytest.raises(UserError, match="nowhere://bucket is no place"):
        write_frames("nowhere://bucket/a.parquet", video)


def test_the_name_changes_with_the_file_and_the_segment(tmp_path):
    file = tmp_path / "a.mp4"
    file.write_bytes(b"one")
    names = {video_name(str(file), None, None), video_name(str(file), 1.0, None)}
    os.utime(file, ns=(1, 1))
    names.add(video_name(str(file), None, None))
    file.write_bytes(b"other")
    os.utime(file, ns=(1, 1))
    names.add(video_name(str(file), None, None))
    assert len(names) == 4


def test_runs_of_near_frame_counts_share_a_store():
    assert [kept_at_least(n) for n in (1, 12, 16, 17, 32, 64, 65)] == [16, 16, 16, 32, 32, 64, 128]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for i in range(12):
        write_video(folder / f"{i}.mp4", 63 + 21 * i)
    return folder


def contents(store: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in store.rglob("*.parquet")}


def start_filling(folder: Path, store: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, fill_store.__file__, str(folder), str(store)], stdout=subprocess.PIPE
    )


def test_a_store_whose_writer_is_killed_again_and_again_ends_as_one_written_in_peace(
    folder, tmp_path
):
    fill_store.fill(folder, str(tmp_path / "peace"))
    peace = contents(tmp_path / "peace")
    assert len(peace) == 12
    rng = random.Random(0)
    store = tmp_path / "war"
    seen = []
    for _ in range(20):
        process = start_filling(folder, store)
        for _ in range(rng.randint(1, 4)):
            process.stdout.readline()
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        process.communicate()
        there = contents(store)
        assert all(peace[name] == content for name, content in there.items())
        seen.append(len(there))
        if len(there) == 12:  # begin again, so that every kill meets a writer at work
            for path in store.rglob("*.parquet"):
                path.unlink()
    assert len(set(seen)) > 2
    process = start_filling(folder, store)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert contents(store) == peace


def test_two_writers_at_once(folder, tmp_path):
    fill_store.fill(folder, str(tmp_path / "peace"))
    processes = [start_filling(folder, tmp_path / "two") for _ in range(2)]
    for process in processes:
        process.communicate(timeout=120)
        assert process.returncode == 0
    assert contents(tmp_path / "two") == contents(tmp_path / "peace")
    assert not list((tmp_path / "two").rglob("*.part"))


def test_stored_frames_are_those_of_the_video(folder, tmp_path):
    fill_store.fill(folder, str(tmp_path))
    name = video_name(str(folder / "3.mp4"), None, None)
    frames = read_frames(frames_uri(str(tmp_path), name), range(18))
    assert [read_number(frame) for frame in frames] == list(range(3, 126, 7))


class TestCatalogue:
    def test_stores_are_listed_with_their_use(self, tmp_path, video, s3):
        for place in (str(tmp_path / "frames"), f"{s3}/catalogue"):
            assert list_stores(place) == []
            store = open_store(place, SETTINGS, "shapes")
            assert open_store(place, SETTINGS, "clips") == store
            write_frames(frames_uri(store, "abc"), video)
            (entry,) = list_stores(place)
            assert entry.location == store
            assert (entry.num_videos, entry.experiments) == (1, ["clips", "shapes"])
            assert entry.num_bytes > sum(map(len, video.jpegs))
            assert 0 <= entry.idle_days < 0.01
            assert entry.is_current
            assert entry.settings == "pyav, 3/s, from 16, 48 px, JPEG 90"

    def test_the_unused_and_the_outdated_are_removed(self, tmp_path, monkeypatch):
        place, now = str(tmp_path), time.time()
        used = open_store(place, SETTINGS, "shapes")
        other = FrameSettings(decoder="decord", frames_per_second=3.0, min_frames=16, short_side=48)
        with monkeypatch.context() as patch:
            patch.setattr(store_catalogue.time, "time", lambda: now - 40 * 86400)
            idle = open_store(place, other, "clips")
        with monkeypatch.context() as patch:
            patch.setattr(store_catalogue, "FRAMES_VERSION", 1)
            patch.setattr("xpool_platform.data.video.FRAMES_VERSION", 1)
            outdated = open_store(place, SETTINGS, "shapes")
        assert len({used, idle, outdated}) == 3
        old_part, new_part = Path(used, "aa", "x.part"), Path(used, "aa", "y.part")
        old_part.parent.mkdir()
        old_part.touch()
        os.utime(old_part, (1, 1))
        new_part.touch()
        removed = {entry.location for entry in prune_stores(place, unused_days=30)}
        assert removed == {idle, outdated}
        assert [entry.location for entry in list_stores(place)] == [used]
        assert not old_part.exists()
        assert new_part.exists()

    def test_a_foreign_folder_is_left_alone(self, tmp_path):
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "cat.parquet").touch()
        assert list_stores(str(tmp_path)) == []
        assert prune_stores(str(tmp_path), unused_days=0) == []
        assert (tmp_path / "photos" / "cat.parquet").exists()
