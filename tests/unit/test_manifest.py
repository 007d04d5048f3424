"""Anyone's own folder: what its manifest holds, and that all that is wrong with it is told."""

import os
from pathlib import Path

import pytest

from xpool_platform.data.folder_manifest import folder_manifest
from xpool_platform.data.manifest import hold_out_validation
from xpool_platform.data_config import DataConfig
from xpool_platform.errors import UserError


@pytest.fixture
def folder(tmp_path: Path):
    """Writes captions.csv and files of one byte for the named videos."""

    def make(csv: str, *videos: str) -> Path:
        (tmp_path / "captions.csv").write_text(csv, encoding="utf-8")
        for video in videos:
            (tmp_path / video).parent.mkdir(exist_ok=True, parents=True)
            (tmp_path / video).write_bytes(b"\0")
        return tmp_path

    return make


def problems_of(root: Path) -> list[str]:
    """The problems that the error lists; their number is told right."""
    with pytest.raises(UserError) as caught:
        folder_manifest(root)
    heading, *problems, way_out = str(caught.value).split("\n")
    assert way_out.startswith("correct the captions")
    number = "1 problem:" if len(problems) == 1 else f"{len(problems)} problems:"
    assert heading.endswith(number)
    return [problem.strip() for problem in problems]


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


def test_ids_of_segments_are_told_apart_by_all_their_digits(folder):
    root = folder(
        "video,caption,start_s,end_s\na.mp4,one,12345.67,12350\na.mp4,two,12345.68,12350\n",
        "a.mp4",
    )
    ids = folder_manifest(root)["video_id"].to_pylist()
    assert ids == ["a.mp4#12345.67-12350", "a.mp4#12345.68-12350"]


def test_a_video_is_found_by_its_path_with_or_without_extension_and_by_its_id(folder):
    root = folder(
        "video,caption\nsub/a.mp4,one\nsub/b,two\n./c,three\nd,four\ne.f,five\n",
        *("sub/a.mp4", "sub/b.MKV", "c.webm", "other/b.mp4", "sub/c.mp4", "deep/er/d.avi"),
        "deep/e.f.mp4",
    )
    rows = folder_manifest(root).to_pylist()
    assert {row["video_id"]: row["uri"] for row in rows} == {
        "sub/a.mp4": str(root / "sub/a.mp4"),
        "sub/b": str(root / "sub/b.MKV"),
        "./c": str(root / "c.webm"),
        "d": str(root / "deep/er/d.avi"),
        "e.f": str(root / "deep/e.f.mp4"),
    }


def test_rows_of_one_video_id_agree(folder):
    header = "video_id,video,caption,split,start_s,end_s\n"
    root = folder(
        header + "x,a,one,test,,\nx,a.mp4,two,test,0,\ny,b.mp4,three,,1,2\n", "a.mp4", "b.mp4"
    )
    rows = folder_manifest(root).to_pylist()
    assert [(row["video_id"], row["captions"]) for row in rows] == [
        ("x", ["one", "two"]),
        ("y", ["three"]),
    ]
    folder(
        header + "x,a.mp4,one,train,1,2\n"
        "x,b.mp4,two,train,1,2\n"
        "x,a.mp4,three,train,1,3\n"
        "x,a.mp4,four,test,1,2\n"
        "y,a.mp4,five,train,1,2\n"
        "a\x1b[2J,b.mp4,six,train,,\n"
    )
    assert problems_of(root) == [
        "line 3: video_id x is another video or segment in line 2; give each its own",
        "line 4: video_id x is another video or segment in line 2; give each its own",
        "line 5: a.mp4 is in the splits train (line 2) and test",
        "line 6: y is the same video or segment as x of line 2; name it alike in all rows",
        r"line 7: video_id 'a\x1b[2J' has control characters in it",
    ]


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
        "also_gone.mp4,seven,train\n"
        "gone.mp4,eight,train\n"
        "b.mp4,nine, ten,train\n"
        "empty.mp4,eleven,train\n"
        "c,twelve,train\n"
        "folder,thirteen,train\n",
        *("a.mp4", "b.mp4", "empty.mp4", "c.mp4", "sub/c.mkv", "folder/d.mp4"),
    )
    (root / "empty.mp4").write_bytes(b"")
    assert problems_of(root) == [
        "line 2: gone.mp4 is not there",
        "line 3: no caption for a.mp4",
        "line 4: a.mp4 is in the splits train (line 3) and test",
        "line 5: split 'dev' is none of train, val, test",
        "line 6: ../outside.mp4 lies outside the folder",
        "line 8: the caption of line 7 again",
        "line 9: no video",
        "line 10: also_gone.mp4 is not there",
        "line 12: 4 columns, and the header has 3; is a quote missing?",
        "line 13: empty.mp4 is empty, it has 0 bytes",
        "line 14: c has 2 video files: c.mp4 and sub/c.mkv",
        "line 15: folder is no regular file",
    ]


def test_segments_and_links_of_one_file_are_in_one_split(folder):
    root = folder(
        "video,caption,split,start_s,end_s\n"
        "a.mp4,one,train,0,2\n"
        "a.mp4,two,val,2,4\n"
        "link.mp4,three,test,4,5\n",
        "a.mp4",
    )
    (root / "link.mp4").symlink_to("a.mp4")
    assert problems_of(root) == [
        "line 3: a.mp4 is in the splits train (line 2) and val",
        "line 4: link.mp4 is in the splits train (line 2 as a.mp4) and test",
    ]


def test_only_the_first_problems_are_listed(folder):
    root = folder("video,caption\n" + "".join(f"{i}.mp4,one\n" for i in range(60)))
    with pytest.raises(UserError) as caught:
        folder_manifest(root)
    message = str(caught.value)
    assert "60 problems" in message
    assert "49.mp4 is not there\n  and 10 more\n" in message
    assert "50.mp4" not in message


@pytest.mark.parametrize("video", ["link.mp4", "link", "linked/a.mp4", "a", "/etc/hostname"])
def test_a_link_out_of_the_folder_is_outside(folder, tmp_path_factory, video):
    root = folder(f"video,caption\n{video},one\n")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "a.mp4").write_bytes(b"\0")
    (root / "link.mp4").symlink_to(elsewhere / "a.mp4")
    (root / "linked").symlink_to(elsewhere)
    assert problems_of(root) == [f"line 2: {video} lies outside the folder"]


def test_the_folder_itself_may_be_a_link_and_have_loops_in_it(folder, tmp_path_factory):
    root = folder("video,caption\na,one\n", "sub/a.mp4")
    (root / "sub" / "loop").symlink_to(root)
    (root / "round.mp4").symlink_to("round.mp4")
    link = tmp_path_factory.mktemp("links") / "root"
    link.symlink_to(root)
    assert folder_manifest(link)["uri"].to_pylist() == [str(root / "sub" / "a.mp4")]
    folder("video,caption\nround,one\n")
    assert problems_of(root) == ["line 2: round cannot be read: Too many levels of symbolic links"]


@pytest.mark.parametrize(
    ("start_s", "end_s", "problem"),
    [
        ("soon", "", "start_s is 'soon', not a number of seconds"),
        ("-1", "", "start_s is -1, not a time in seconds"),
        ("", "nan", "end_s is nan, not a time in seconds"),
        ("1e999", "", "start_s is inf, not a time in seconds"),
        ("3", "2", "start_s 3 is not before end_s 2"),
        ("2", "2", "start_s 2 is not before end_s 2"),
        ("", "0", "start_s 0 is not before end_s 0"),
    ],
)
def test_a_segment_that_is_none(folder, start_s, end_s, problem):
    root = folder(f"video,caption,start_s,end_s\na.mp4,one,{start_s},{end_s}\n", "a.mp4")
    assert problems_of(root) == [f"line 2: {problem}"]


def test_names_that_are_no_plain_text(folder):
    long = "a" * 501
    root = folder(f"video,caption\n{long},one\na\x07b.mp4,two\n{'b' * 300}.mp4,three\nc\0d,four\n")
    assert problems_of(root) == [
        f"line 2: video '{'a' * 80}…' has 501 characters, and 500 are the most",
        r"line 3: video 'a\x07b.mp4' has control characters in it",
        f"line 4: {'b' * 300}.mp4 is not there",
        r"line 5: video 'c\x00d' has control characters in it",
    ]
    name = os.fsdecode(b"caf\xe9")
    (root / name).mkdir()
    (root / name / "e.mp4").write_bytes(b"\0")
    folder("video,caption\ne,one\n")
    assert problems_of(root) == ["line 2: e is in a folder whose name is not UTF-8"]


def test_a_folder_without_captions_says_what_to_write(tmp_path):
    with pytest.raises(UserError, match=r"has no captions\.csv; write one"):
        folder_manifest(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        folder_manifest(tmp_path / "nowhere")


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


def test_segments_of_a_video_are_held_out_together(folder):
    lines = [f"{i}.mp4,caption {j},{j},{j + 1}\n" for i in range(10) for j in range(4)]
    videos = [f"{i}.mp4" for i in range(10)]
    manifest = folder_manifest(folder("video,caption,start_s,end_s\n" + "".join(lines), *videos))
    held_out = hold_out_validation(manifest, DataConfig(val_fraction=0.3), seed=0)
    splits: dict[str, set[str]] = {}
    for row in held_out.to_pylist():
        splits.setdefault(row["uri"], set()).add(row["split"])
    assert sorted(map(sorted, splits.values())) == [["train"]] * 7 + [["val"]] * 3
