"""What is indexed: folders, captions, manifests and frame stores, told apart by what they hold."""

import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from object_store import served_bucket
from xpool_platform.data.frame_store import frames_uri, write_frames
from xpool_platform.data.manifest import SCHEMA
from xpool_platform.data.store_catalogue import open_store
from xpool_platform.data.video import EncodedVideo, FrameSettings
from xpool_platform.data_config import DataConfig
from xpool_platform.errors import UserError
from xpool_platform.locations import write_whole
from xpool_platform.search.sources import Source, find_source, of_split, stored_manifest

DATA = DataConfig(num_frames=4, short_side=64, val_fraction=0.5, root="")


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"a video, nobody looks yet")
    return folder


def rows_of(source: Source) -> list[dict]:
    assert source.data is None
    assert source.store == ""
    assert source.manifest.schema == SCHEMA
    return source.manifest.to_pylist()


class TestFolders:
    def test_files_go_by_their_paths_in_the_folder(self, tmp_path):
        names = ["a.mp4", "b c/d é.MKV", "b c/犬 \U0001f415.webm", "x/a.mp4", "x/a.mov"]
        touch(tmp_path, *names, "notes.md", "x/a.jpg")
        rows = rows_of(find_source(str(tmp_path), DATA))
        assert [row["video_id"] for row in rows] == sorted(names)
        for row in rows:
            assert row["uri"] == str(tmp_path / row["video_id"])
            assert row["captions"] == []
            assert (row["split"], row["start_s"], row["end_s"]) == ("", None, None)

    def test_a_folder_may_be_named_in_any_way(self, tmp_path, monkeypatch):
        touch(tmp_path, "films/a.mp4")
        (tmp_path / "link").symlink_to("films")
        monkeypatch.chdir(tmp_path)
        expected = str(tmp_path / "films" / "a.mp4")
        for name in ("films", "films/", "link", f"file://{tmp_path}/films", "./films/../films"):
            (row,) = rows_of(find_source(name, DATA))
            assert (row["video_id"], row["uri"]) == ("a.mp4", expected)

    def test_what_is_wrong_is_said_of_all_files_at_once(self, tmp_path):
        films = touch(tmp_path / "films", "good.mp4", "line\nbreak.mp4")
        outside = touch(tmp_path, "secret.mp4") / "secret.mp4"
        (films / "empty.mp4").touch()
        (films / "away.mp4").symlink_to(outside)
        (films / "broken.mp4").symlink_to("nowhere.mp4")
        os.mkfifo(films / "pipe.mp4")
        (films / "within.mp4").symlink_to("good.mp4")  # has nothing wrong with it
        with pytest.raises(UserError) as caught:
            find_source(str(films), DATA)
        message = str(caught.value)
        assert message.splitlines()[0].endswith("films, 5 problems:")
        for line in (
            "away.mp4 lies outside the folder",
            "broken.mp4 cannot be read: No such file or directory",
            "empty.mp4 is empty, it has 0 bytes",
            r"'line\nbreak.mp4' has control characters in it",
            "pipe.mp4 is no regular file",
        ):
            assert f"\n  {line}\n" in message

    def test_a_folder_linked_from_outside_is_refused(self, tmp_path):
        films = touch(tmp_path / "films", "good.mp4")
        (films / "more").symlink_to(touch(tmp_path / "others", "b.mp4"))
        with pytest.raises(UserError, match=r"more/b\.mp4 lies outside the folder"):
            find_source(str(films), DATA)

    def test_a_name_that_is_no_utf8_is_refused(self, tmp_path):
        films = touch(tmp_path, "a.mp4")
        Path(os.fsdecode(os.fsencode(films) + b"/\xff.mp4")).write_bytes(b"a video")
        with pytest.raises(UserError, match=r"1 problem:\n  '\\udcff.mp4' "):
            find_source(str(films), DATA)

    def test_no_videos(self, tmp_path):
        touch(tmp_path, "a.jpg", "notes")
        with pytest.raises(UserError, match="has no video files below it"):
            find_source(str(tmp_path), DATA)


class TestCaptions:
    @pytest.mark.parametrize(
        ("name", "content"), [("captions.csv", "video,caption\na.mp4,x\n"), ("a.txt", "x\n")]
    )
    def test_a_folder_with_captions_is_data_of_its_own(self, tmp_path, name, content):
        touch(tmp_path, "a.mp4")
        (tmp_path / name).write_text(content)
        source = find_source(str(tmp_path), replace(DATA, source="msrvtt", annotations="old"))
        expected = replace(DATA, source="folder", root=str(tmp_path), annotations="")
        assert source == Source(data=replace(expected, val_fraction=0.0))

    def test_a_text_that_belongs_to_no_video_is_no_caption(self, tmp_path):
        touch(tmp_path, "a.mp4", "readme.txt")
        assert len(rows_of(find_source(str(tmp_path), DATA))) == 1

    def test_a_file_of_captions_is_data_beside_it_or_of_a_root(self, tmp_path):
        file = touch(tmp_path, "any.csv") / "any.csv"
        source = find_source(str(file), DATA)
        assert (source.data.root, source.data.annotations) == (str(tmp_path), str(file))
        assert (source.data.source, source.data.num_frames) == ("folder", 4)
        source = find_source(str(file), replace(DATA, root=f"{tmp_path}/films"))
        assert (source.data.root, source.data.annotations) == (f"{tmp_path}/films", str(file))

    def test_captions_in_parquet_are_no_manifest(self, tmp_path):
        file = tmp_path / "captions.parquet"
        pq.write_table(pa.table({"video": ["a.mp4"], "caption": ["x"]}), file)
        assert find_source(str(file), DATA).data.annotations == str(file)


def write_manifest(folder, **columns):
    path = folder / "manifest.parquet"
    pq.write_table(pa.table(columns), path)
    return str(path)


class TestManifests:
    def test_all_columns(self, tmp_path):
        touch(tmp_path, "a.mp4", "b.mp4")
        path = write_manifest(
            tmp_path,
            video_id=["a#1-2", "b"],
            uri=["a.mp4", str(tmp_path / "b.mp4")],
            split=["test", None],
            captions=[["x", "", "y"], None],
            start_s=[1, None],
            end_s=[2.5, None],
            more=[1, 2],
        )
        first, second = rows_of(find_source(path, DATA))
        assert first == {
            "video_id": "a#1-2",
            "uri": str(tmp_path / "a.mp4"),
            "split": "test",
            "captions": ["x", "y"],
            "start_s": 1.0,
            "end_s": 2.5,
        }
        assert second == {
            "video_id": "b",
            "uri": str(tmp_path / "b.mp4"),
            "split": "",
            "captions": [],
            "start_s": None,
            "end_s": None,
        }

    def test_an_id_and_a_file_are_enough(self, tmp_path):
        touch(tmp_path, "a.mp4")
        path = write_manifest(tmp_path, uri=["a.mp4", "s3://bucket/b.mp4"], video_id=["a", "b"])
        rows = rows_of(find_source(path, DATA))
        uris = [str(tmp_path / "a.mp4"), "s3://bucket/b.mp4"]
        assert [row["uri"] for row in rows] == uris
        assert [row["captions"] for row in rows] == [[], []]

    def test_all_that_is_wrong_is_said_at_once(self, tmp_path):
        touch(tmp_path, "a.mp4")
        (tmp_path / "empty.mp4").touch()
        path = write_manifest(
            tmp_path,
            video_id=["twice", "twice", "", None, "a\tb", "gone", "empty", "no file", "nul", "ok"],
            uri=["a.mp4"] * 5 + ["gone.mp4", "empty.mp4", None, "a\0.mp4", "a.mp4"],
        )
        with pytest.raises(UserError) as caught:
            find_source(path, DATA)
        assert str(caught.value).split("\n  ") == [
            f"{path}, 9 problems:",
            "row 1: twice is there more than once",
            "row 2: twice is there more than once",
            "row 3: video_id is empty",
            "row 4: video_id is empty",
            "row 5: video_id has control characters in it",
            "row 6: the file gone.mp4 cannot be read: No such file or directory",
            "row 7: the file empty.mp4 is empty, it has 0 bytes",
            "row 8: the file '' is empty",
            r"row 9: the file 'a\x00.mp4' has control characters in it"
            "\ncorrect the manifest, then run again",
        ]

    @pytest.mark.parametrize(
        ("start", "end"),
        [(5.0, 5.0), (2.0, 1.0), (-1.0, None), (math.nan, None), (0.0, math.inf), (None, 0.0)],
    )
    def test_a_segment_that_is_none_is_said(self, tmp_path, start, end):
        touch(tmp_path, "a.mp4")
        column = {
            "start_s": pa.array([start], pa.float64()),
            "end_s": pa.array([end], pa.float64()),
        }
        path = write_manifest(tmp_path, video_id=["a"], uri=["a.mp4"], **column)
        with pytest.raises(UserError, match=r"1 problem:\n  row 1: (start|end)_s "):
            find_source(path, DATA)

    def test_a_column_of_another_type_is_said(self, tmp_path):
        touch(tmp_path, "a.mp4")
        path = write_manifest(tmp_path, video_id=["a"], uri=["a.mp4"], start_s=["soon"])
        with pytest.raises(UserError, match=r"manifest\.parquet is no manifest: "):
            find_source(path, DATA)

    def test_no_rows_and_no_parquet(self, tmp_path):
        path = write_manifest(
            tmp_path, video_id=pa.array([], pa.string()), uri=pa.array([], pa.string())
        )
        with pytest.raises(UserError, match=r"manifest\.parquet has no videos in it"):
            find_source(path, DATA)
        Path(path).write_bytes(b"PAR1 but no more PAR1")
        with pytest.raises(UserError, match=r"manifest\.parquet cannot be read as Parquet"):
            find_source(path, DATA)


@pytest.fixture
def store(tmp_path):
    import simplejpeg

    store = open_store(str(tmp_path / "frames"), FrameSettings.of(DATA), "a test")
    jpeg = simplejpeg.encode_jpeg(np.full((64, 96, 3), 99, np.uint8))
    for name, count in (("ab" * 16, 5), ("0c" * 16, 2)):
        video = EncodedVideo(jpegs=[jpeg] * count, times_s=np.arange(count) / 3, duration_s=1.5)
        write_frames(frames_uri(store, name), video)
    return store


class TestStores:
    def test_a_store_is_its_videos(self, store):
        assert find_source(store, DATA) == Source(store=store)
        damaged = Path(frames_uri(store, "cd" * 16))
        damaged.parent.mkdir()
        damaged.write_bytes(b"PAR1 and no more")
        table, bad = stored_manifest(store, FrameSettings.of(DATA))
        assert [(video.video_id, video.kind) for video in bad] == [("cd" * 16, "damaged")]
        rows = table.to_pylist()
        assert [row["video_id"] for row in rows] == ["0c" * 16, "ab" * 16]
        assert [(row["num_frames"], row["duration_s"]) for row in rows] == [(2, 1.5), (5, 1.5)]
        assert [row["frames_uri"] for row in rows] == [
            frames_uri(store, name) for name in ("0c" * 16, "ab" * 16)
        ]
        assert all(row["uri"] == "" and row["captions"] == [] for row in rows)

    def test_frames_of_other_settings_are_refused(self, store):
        other = FrameSettings.of(replace(DATA, short_side=224))
        with pytest.raises(UserError, match=r"short_side=64.* was trained on .*short_side=224"):
            stored_manifest(store, other)

    def test_a_file_of_that_name_makes_no_store(self, tmp_path):
        folder = tmp_path / "films"
        folder.mkdir()
        (folder / "one.mp4").write_bytes(b"a film")
        for content in ('{"theme": "dark"}', "[1]", "{"):
            (folder / "settings.json").write_text(content)
            assert find_source(str(folder), DATA).manifest is not None

    def test_a_store_without_a_video(self, tmp_path):
        settings = FrameSettings.of(DATA)
        store = open_store(str(tmp_path), settings, "a test")
        with pytest.raises(UserError, match="holds no video yet"):
            stored_manifest(store, settings)


@pytest.fixture(scope="module")
def bucket():
    with served_bucket("films") as uri:
        yield uri


class TestObjectStores:
    def test_videos_captions_and_frames_are_told_apart(self, bucket):
        for name in ("plain/a é.mp4", "plain/b c/d.webm", "plain/notes.md", "told/a.mp4"):
            write_whole(f"{bucket}/{name}", b"a video")
        write_whole(f"{bucket}/told/captions.jsonl", b"{}")
        rows = rows_of(find_source(f"{bucket}/plain/", DATA))
        assert [row["video_id"] for row in rows] == ["a é.mp4", "b c/d.webm"]
        assert [row["uri"] for row in rows] == [
            f"{bucket}/plain/a é.mp4",
            f"{bucket}/plain/b c/d.webm",
        ]
        source = find_source(f"{bucket}/told", DATA)
        assert (source.data.root, source.data.annotations) == (f"{bucket}/told", "")
        store = open_store(f"{bucket}/frames", FrameSettings.of(DATA), "a test")
        assert find_source(store, DATA) == Source(store=store)

    def test_what_cannot_be_read_is_said(self, bucket):
        write_whole(f"{bucket}/empty/a.mp4", b"")
        with pytest.raises(UserError, match=r"a\.mp4 is empty, it has 0 bytes"):
            find_source(f"{bucket}/empty", DATA)
        for nowhere in (f"{bucket}/nothing", "s3://no-such-bucket/films"):
            with pytest.raises(UserError, match=r"nothing|no-such-bucket"):
                find_source(nowhere, DATA)


@pytest.mark.parametrize("videos", ["nowhere", "/nowhere/at/all", "nowhere.mp4", "a\nb"])
def test_nonsense_is_one_clear_error(videos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="is neither a folder nor a file; give a folder of videos"):
        find_source(videos, DATA)


def test_an_unknown_kind_of_place_is_one_clear_error():
    with pytest.raises(UserError, match="nowhere://films is no place that can be read"):
        find_source("nowhere://films/a", DATA)


def test_a_split():
    row = {"uri": "", "captions": [], "start_s": None, "end_s": None}
    videos = pa.Table.from_pylist(
        [
            {**row, "video_id": str(i), "split": s}
            for i, s in enumerate(["test", "", "train", "test"])
        ],
        schema=SCHEMA,
    )
    assert of_split(videos, "") is videos
    assert of_split(videos, "test")["video_id"].to_pylist() == ["0", "3"]
    with pytest.raises(UserError, match="split 'val' has no videos, and the data has test, train"):
        of_split(videos, "val")
    with pytest.raises(UserError, match="and the data has no split at all"):
        of_split(videos.slice(1, 1), "val")
