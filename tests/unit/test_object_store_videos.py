"""Videos and annotations in an object store, and what is wrong with them."""

import posixpath
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_benchmark_sets import write_msrvtt

from free_port import free_port
from object_store import served_bucket
from videos import write_video
from xpool_platform.checkpoint_files import checkpoints_below, find_checkpoint
from xpool_platform.data.benchmark_manifest import benchmark_manifest
from xpool_platform.data.decode import _decode_row
from xpool_platform.data.folder_manifest import object_manifest
from xpool_platform.data.frame_store import video_name, video_names
from xpool_platform.data.video import FrameSettings
from xpool_platform.data_config import DataConfig
from xpool_platform.errors import UserError
from xpool_platform.locations import absolute, kept_copy, local_file, write_whole
from xpool_platform.result_files import find_ranks


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
    with pytest.raises(UserError, match=r"s3://no-such-bucket/x cannot be read .*credentials of"):
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


def test_a_store_that_is_away_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for look in (
        lambda: object_manifest("s3://away/videos"),
        lambda: find_checkpoint("s3://away/runs/one", tmp_path),
        lambda: find_ranks("s3://away/ranks.parquet", tmp_path),
    ):
        with pytest.raises(UserError, match=r"s3://away/\S+ cannot be read .*; give a place that"):
            look()


def test_checkpoints_are_looked_for_in_a_runs_folder_and_not_below_others(bucket, tmp_path):
    put(f"{bucket}/runs/one/step_0000003", **{"manifest.json": "{}"})
    assert set(checkpoints_below(f"{bucket}/runs/one")) == {3}
    assert checkpoints_below(f"{bucket}/runs") == {}
    with pytest.raises(UserError, match="is neither a file, nor a folder with"):
        find_checkpoint(f"{bucket}/runs", tmp_path)


def test_uris_of_files_are_paths(tmp_path):
    assert absolute(f"file://{tmp_path}/a b") == f"{tmp_path}/a b"
    assert absolute("s3://bucket/videos/") == "s3://bucket/videos"
    assert absolute("") == ""
    assert absolute("file:///my%20videos/") == "/my videos"
    with pytest.raises(UserError, match="names the host 'data', and files of this machine"):
        absolute("file://data/videos")


def test_an_object_that_cannot_be_copied_is_one_bad_video(bucket, tmp_path):
    config = DataConfig(root=bucket, num_frames=4, short_side=48)
    write_video(tmp_path / "a.mp4", 20)
    long = f"{'x' * 250}.mp4"  # longer than the name of a file beside its folder's may be
    put(bucket, **{long: (tmp_path / "a.mp4").read_bytes()})

    def decoded(name: str) -> dict:
        row = {"name": "n", "uri": f"{bucket}/{name}", "start_s": None, "end_s": None}
        kept = {"frames_uri": str(tmp_path / "frames" / "n.parquet")}
        return _decode_row(row | kept, config, FrameSettings.of(config))

    gone = decoded("gone.mp4")
    assert gone["kind"] == "unreadable"
    assert "gone.mp4" in gone["reason"]
    assert decoded(long)["num_frames"] >= 4
