"""Videos and annotations in an object store, and what is wrong with them."""

import posixpath
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_benchmark_sets import write_msrvtt

from object_store import served_bucket
from videos import write_video
from xpool_platform.data.benchmark_manifest import benchmark_manifest
from xpool_platform.data.folder_manifest import object_manifest
from xpool_platform.data.frame_store import video_name, video_names
from xpool_platform.data_config import DataConfig
from xpool_platform.errors import UserError
from xpool_platform.locations import absolute, kept_copy, local_file, write_whole


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with served_bucket("videos") as uri:
        yield uri


def put(root: str, **files: bytes | str) -> str:
    for name, content in files.items():
        write_whole(f"{root}/{name}", content.encode() if isinstance(content, str) else content)
    return root


def test_a_folder_of_videos_with_captions_beside_them(bucket):
    captions = "video,caption,split\na.mp4,one,train\nsub/b,two,test\nc,three,test\n"
    videos = {"a.mp4": b"1", "sub/b.webm": b"2", "deep/er/c.MKV": b"3", "notes.pdf": b"4"}
    root = put(f"{bucket}/fine", **{"captions.csv": captions}, **videos)
    rows = object_manifest(root).to_pylist()
    assert [(row["video_id"], row["split"]) for row in rows] == [
        ("a.mp4", "train"),
        ("sub/b", "test"),
        ("c", "test"),
    ]
    found = [posixpath.relpath(row["uri"], root) for row in rows]
    assert found == ["a.mp4", "sub/b.webm", "deep/er/c.MKV"]


def test_captions_elsewhere(bucket, tmp_path):
    root = put(f"{bucket}/bare", **{"a.mp4": b"1"})
    texts = put(f"{bucket}/texts", **{"mine.jsonl": '{"video": "a.mp4", "caption": ["x", "y"]}\n'})
    (tmp_path / "mine.csv").write_text("video,caption\na,here\n")
    rows = object_manifest(root, f"{texts}/mine.jsonl").to_pylist()
    assert rows[0]["captions"] == ["x", "y"]
    assert object_manifest(root, str(tmp_path / "mine.csv"))["captions"].to_pylist() == [["here"]]


def test_all_that_is_wrong_is_listed_with_the_names_that_the_user_gave(bucket):
    captions = "video,caption\n../a.mp4,x\n/etc/passwd,x\nb.mp4,x\ntwice,x\nempty.mp4,x\n"
    videos = {"d/twice.mp4": b"1", "e/twice.avi": b"1", "empty.mp4": b""}
    root = put(f"{bucket}/wrong", **{"captions.csv": captions}, **videos)
    with pytest.raises(UserError) as caught:
        object_manifest(root)
    message = str(caught.value)
    assert f"{root}/captions.csv does not fit the videos below {root}" in message
    for words in (
        "../a.mp4 lies outside the folder",
        "/etc/passwd lies outside the folder",
        "b.mp4 is not there",
        "twice has 2 video files: d/twice.mp4 and e/twice.avi",
        "empty.mp4 is empty, it has 0 bytes",
    ):
        assert words in message


def test_places_without_videos_or_captions_are_named(bucket):
    with pytest.raises(UserError, match=r"nowhere cannot be read .*does not exist"):
        object_manifest(f"{bucket}/nowhere")
    with pytest.raises(UserError, match=r"s3://no-such-bucket/x cannot be read .*credentials in"):
        object_manifest("s3://no-such-bucket/x")
    root = put(f"{bucket}/videos", **{"a.mp4": b"1"})
    with pytest.raises(UserError, match=r"has no annotation file .*put captions\.csv there"):
        object_manifest(root)
    root = put(f"{bucket}/two", **{"captions.csv": "x", "captions.tsv": "x"})
    with pytest.raises(UserError, match=f"{root} has captions.csv and captions.tsv; leave one"):
        object_manifest(root)


def test_a_benchmark_with_its_published_files(bucket, tmp_path):
    write_msrvtt(tmp_path, "9k")
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    videos = {"all/video0.mp4": b"0", "all/video1.mp4": b"1"}
    root = put(f"{bucket}/msrvtt", **files, **videos)
    config = DataConfig(source="msrvtt", root=root)
    with pytest.raises(UserError, match=r"(?s)below s3://.*video9 \(test\) has no video file"):
        benchmark_manifest(config)
    put(root, **{"test/video9.mp4": b"9"})
    uris = dict(benchmark_manifest(config).select(["video_id", "uri"]).to_pandas().to_numpy())
    assert uris["video9"] == f"{root}/test/video9.mp4"
    annotated = DataConfig(source="msrvtt", root=root, annotations=str(tmp_path))
    assert benchmark_manifest(annotated).equals(benchmark_manifest(config))


def test_a_changed_object_is_another_video(bucket, tmp_path):
    write_video(tmp_path / "a.mp4", 20)
    place = f"{put(f'{bucket}/changed', **{'a.mp4': (tmp_path / 'a.mp4').read_bytes()})}/a.mp4"
    before = video_name(place, None, None)
    with local_file(place) as copy:
        assert Path(copy).read_bytes() == (tmp_path / "a.mp4").read_bytes()
        assert Path(copy).suffix == ".mp4"  # by which decoders choose a container
    assert not Path(copy).exists()
    kept = kept_copy(place, tmp_path / "copies")
    assert kept_copy(place, tmp_path / "copies") == kept
    write_whole(place, b"another")
    rows = [{"uri": place, "start_s": None, "end_s": None}]
    assert video_names(rows) != [before]
    assert kept_copy(place, tmp_path / "copies").read_bytes() == b"another"
    with pytest.raises(FileNotFoundError, match=r"gone\.mp4 is not there"):
        video_name(f"{bucket}/gone.mp4", None, None)


def test_uris_of_files_are_paths(tmp_path):
    assert absolute(f"file://{tmp_path}/a b") == f"{tmp_path}/a b"
    assert absolute("s3://bucket/videos/") == "s3://bucket/videos"
    assert absolute("") == ""
