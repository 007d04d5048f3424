from pathlib import Path

import pytest

from xpool_platform.config import DataConfig
from xpool_platform.data.manifest import folder_manifest, hold_out_validation
from xpool_platform.errors import UserError


@pytest.fixture
def folder(tmp_path: Path):
    """Writes captions.csv and empty files for the named videos."""

    def make(csv: str, *videos: str) -> Path:
        (tmp_path / "captions.csv").write_text(csv, encoding="utf-8")
        for video in videos:
            (tmp_path / video).parent.mkdir(exist_ok=True)
            (tmp_path / video).touch()
        return tmp_path

    return make


def test_captions_of_a_video_come_together_in_order(folder):
    root = folder("video,caption\na.mp4,one\nb.mp4,two\na.mp4,three\n", "a.mp4", "b.mp4")
    rows = folder_manifest(root).to_pylist()
    assert [(row["video_id"], row["captions"]) for row in rows] == [
        ("a.mp4", ["one", "three"]),
        ("b.mp4", ["two"]),
    ]
    assert rows[0]["uri"] == str(root / "a.mp4")
    assert {row["split"] for row in rows} == {"train"}


def test_splits_segments_and_quoted_captions(folder):
    root = folder(
        "video,caption,split,start_s,end_s\n"
        'sub/a.mp4,"a dog, running",test,0.5,2\n'
        "sub/a.mp4,a cat,test,2,\n",
        "sub/a.mp4",
    )
    first, second = folder_manifest(root).to_pylist()
    assert first["captions"] == ["a dog, running"]
    assert (first["start_s"], first["end_s"], second["start_s"]) == (0.5, 2.0, 2.0)
    assert second["end_s"] is None
    assert first["video_id"] == "sub/a.mp4#0.5-2"
    assert first["split"] == "test"


def test_all_problems_are_listed_at_once(folder):
    root = folder(
        "video,caption,split\n"
        "gone.mp4,one,train\n"
        "a.mp4,,train\n"
        "a.mp4,two,test\n"
        "a.mp4,three,dev\n"
        "../outside.mp4,four,train\n"
        "b.mp4,five,train\n"
        "b.mp4,five,train\n"
        ",six,train\n"
        "also_gone.mp4,seven,train\n",
        "a.mp4",
        "b.mp4",
    )
    with pytest.raises(UserError) as caught:
        folder_manifest(root)
    message = str(caught.value)
    for problem in (
        "line 2: gone.mp4 is not there",
        "line 3: no caption for a.mp4",
        "line 4: a.mp4 is in the splits train and test",
        "line 5: split 'dev' is none of train, val, test",
        "line 6: ../outside.mp4 lies outside the folder",
        "line 8: the caption of line 7 again",
        "line 9: no video",
        "line 10: also_gone.mp4 is not there",
    ):
        assert problem in message
    assert "9 problems" in message


def test_a_link_out_of_the_folder_is_outside(folder):
    root = folder("video,caption\nlink.mp4,one\n")
    (root / "link.mp4").symlink_to("/etc/hostname")
    with pytest.raises(UserError, match=r"link\.mp4 lies outside the folder"):
        folder_manifest(root)


@pytest.mark.parametrize(
    ("csv", "problem"),
    [
        ("file,text\na,b\n", "no column video and no column caption"),
        ("", "its header is empty"),
        ("video,caption\n", "header but no captions"),
        ("video,caption,start_s\na.mp4,b,soon\n", "line 2: could not convert"),
        ("video,caption,start_s\na.mp4,b,-1\n", "'-1' is not a time"),
        ("video,caption,start_s,end_s\na.mp4,b,3,2\n", "start_s 3.0 is not before end_s 2.0"),
        ('video,caption\na.mp4,"b\n', "not a well-formed CSV"),
    ],
)
def test_a_bad_file_is_a_clear_error(folder, csv, problem):
    with pytest.raises(UserError, match=problem):
        folder_manifest(folder(csv, "a.mp4"))


def test_a_folder_without_captions_says_what_to_write(tmp_path):
    with pytest.raises(UserError, match=r"has no captions\.csv; write one"):
        folder_manifest(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        folder_manifest(tmp_path / "nowhere")


def test_text_that_is_not_utf8_is_a_clear_error(tmp_path):
    (tmp_path / "captions.csv").write_bytes(b"video,caption\na.mp4,caf\xe9\n")
    with pytest.raises(UserError, match="not UTF-8"):
        folder_manifest(tmp_path)


def test_validation_is_held_out_of_training_only_where_there_is_none(folder):
    videos = [f"{i}.mp4" for i in range(20)]
    lines = "".join(f"{video},caption {video}\n" for video in videos)
    manifest = folder_manifest(folder("video,caption\n" + lines, *videos))
    config = DataConfig(val_fraction=0.25)
    held_out = hold_out_validation(manifest, config, seed=1)["split"].to_pylist()
    assert held_out.count("val") == 5
    assert held_out.count("train") == 15
    assert held_out == hold_out_validation(manifest, config, seed=1)["split"].to_pylist()
    assert held_out != hold_out_validation(manifest, config, seed=2)["split"].to_pylist()
    assert hold_out_validation(manifest, DataConfig(), seed=1) is manifest
