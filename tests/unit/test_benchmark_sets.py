"""MSR-VTT, MSVD, LSMDC and ActivityNet from files in their published formats."""

import json
import re
from pathlib import Path

import pytest

from xpool_platform.data.benchmark_manifest import benchmark_manifest
from xpool_platform.data.benchmark_sets import LSMDC_FILES, LSMDC_WITHOUT_VIDEO
from xpool_platform.data_config import DataConfig
from xpool_platform.errors import UserError

SHARED = Path(__file__).parents[3] / "shared" / "annotations"


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"\0")


def write_msrvtt(root: Path, train_list: str = "9k") -> None:
    sentences = [
        {"caption": f" caption {i} of {video} ", "video_id": video, "sen_id": i}
        for i in range(2)
        for video in ("video0", "video1", "video9")
    ]
    videos = [{"video_id": f"video{i}", "split": "train", "id": i} for i in (0, 1, 9)]
    data = {"info": {}, "videos": videos, "sentences": sentences}
    (root / "MSRVTT_data.json").write_text(json.dumps(data))
    (root / f"MSRVTT_train.{train_list}.csv").write_text("video_id\nvideo0\nvideo1\n")
    (root / "MSRVTT_JSFUSION_test.csv").write_text(
        'key,vid_key,video_id,sentence\nret0,msr9,video9,"a test, of commas"\n'
    )


def write_msvd(root: Path) -> None:
    ids = {"train": ["a_0_5", "-b_1_2"], "val": ["c_3_4"], "test": ["d_7_9"]}
    captions = {
        video: [f"one {video}", "the same", "the same"] for v in ids.values() for video in v
    }
    (root / "captions_msvd.json").write_text(json.dumps(captions))
    for split, videos in ids.items():
        (root / f"{split}_list.txt").write_text("".join(f"{video}\n" for video in videos))


LSMDC_CLIP = "3086_UGLY_TRUTH_00.23.23.000-00.23.28.886"


def write_lsmdc(root: Path) -> None:
    for split, name in LSMDC_FILES.items():
        clips = [LSMDC_CLIP, LSMDC_WITHOUT_VIDEO] if split == "train" else [f"1_{split}_0.0-1.1"]
        times = "\t".join(["00.00.00.000"] * 4)
        lines = [f'{clip}\t{times}\tSOMEONE says "hello, {split}.\n' for clip in clips]
        (root / name).write_text("".join(lines))


def write_activitynet(root: Path) -> None:
    for name, videos in (("train.json", ("v_-a", "v_b")), ("val_1.json", ("v_c",))):
        entries = {
            video: {
                "duration": 55.15,
                "timestamps": [[0.28, 55.15], [13, 54.32]],
                "sentences": [f"A first sentence of {video}.", "  A second one. "],
            }
            for video in videos
        }
        (root / name).write_text(json.dumps(entries))


def problems_of(config: DataConfig) -> list[str]:
    with pytest.raises(UserError) as caught:
        benchmark_manifest(config)
    return [line.strip() for line in str(caught.value).split("\n")[1:-1]]


def by_id(config: DataConfig) -> dict[str, dict]:
    return {row["video_id"]: row for row in benchmark_manifest(config).to_pylist()}


@pytest.mark.parametrize("train_list", ["9k", "7k"])
def test_msrvtt(tmp_path, train_list):
    write_msrvtt(tmp_path, train_list)
    touch(tmp_path, "videos/all/video0.mp4", "videos/all/video1.WEBM", "test/video9.mp4", "a.txt")
    config = DataConfig(source="msrvtt", root=str(tmp_path), msrvtt_train=train_list)
    rows = by_id(config)
    assert {video: row["split"] for video, row in rows.items()} == {
        "video0": "train",
        "video1": "train",
        "video9": "test",
    }
    assert rows["video1"]["captions"] == ["caption 0 of video1", "caption 1 of video1"]
    assert rows["video1"]["uri"] == str(tmp_path / "videos/all/video1.WEBM")
    assert rows["video9"]["captions"] == ["a test, of commas"]


def test_msvd_with_the_annotations_elsewhere(tmp_path):
    (tmp_path / "annotations").mkdir()
    write_msvd(tmp_path / "annotations")
    touch(tmp_path / "videos", "a_0_5.avi", "-b_1_2.avi", "c_3_4.mp4", "d_7_9.avi")
    root, annotations = str(tmp_path / "videos"), str(tmp_path / "annotations")
    rows = by_id(DataConfig(source="msvd", root=root, annotations=annotations))
    assert [row["split"] for row in rows.values()] == ["train", "train", "val", "test"]
    assert rows["d_7_9"]["captions"] == ["one d_7_9", "the same", "the same"]


def test_lsmdc(tmp_path):
    write_lsmdc(tmp_path)
    touch(tmp_path, f"3086_UGLY_TRUTH/{LSMDC_CLIP}.avi", "1/1_val_0.0-1.1.avi")
    touch(tmp_path, "1/1_test_0.0-1.1.avi")
    rows = by_id(DataConfig(source="lsmdc", root=str(tmp_path)))
    assert LSMDC_WITHOUT_VIDEO not in rows
    assert rows[LSMDC_CLIP]["captions"] == ['SOMEONE says "hello, train.']
    assert rows["1_test_0.0-1.1"]["split"] == "test"


def test_everything_that_does_not_fit_is_listed_at_once(tmp_path):
    write_msrvtt(tmp_path)
    (tmp_path / "MSRVTT_train.9k.csv").write_text("video_id\nvideo0\nvideo1\nvideo9\nvideo77\n")
    touch(tmp_path, "a/video0.mp4", "b/video0.avi", "video9.mp4")
    assert problems_of(DataConfig(source="msrvtt", root=str(tmp_path))) == [
        "video9 is listed 2 times, in train and test",
        "video0 has 2 video files: a/video0.mp4 and b/video0.avi",
        "video1 (train) has no video file",
        "video77 (train) has no caption, or an empty one",
        "video77 (train) has no video file",
    ]


def test_activitynet(tmp_path):
    write_activitynet(tmp_path)
    touch(tmp_path, "v_-a.mp4", "videos/b.mkv", "videos/v_c.webm")
    rows = by_id(DataConfig(source="activitynet", root=str(tmp_path)))
    assert {video: row["split"] for video, row in rows.items()} == {
        "v_-a": "train",
        "v_b": "train",
        "v_c": "test",
    }
    assert rows["v_b"]["captions"] == ["A first sentence of v_b. A second one."]
    assert rows["v_b"]["uri"] == str(tmp_path / "videos" / "b.mkv")
    touch(tmp_path, "c.mp4")
    assert problems_of(DataConfig(source="activitynet", root=str(tmp_path))) == [
        "v_c has 2 video files: c.mp4 and videos/v_c.webm"
    ]


def test_videos_that_are_empty_or_one_file_in_two_splits(tmp_path):
    write_msvd(tmp_path)
    touch(tmp_path, "a_0_5.avi", "-b_1_2.avi")
    (tmp_path / "a_0_5.avi").write_bytes(b"")
    (tmp_path / "c_3_4.avi").symlink_to("gone.avi")
    (tmp_path / "d_7_9.avi").symlink_to("-b_1_2.avi")
    config = DataConfig(source="msvd", root=str(tmp_path))
    twice = "-b_1_2 (train) and d_7_9 (test) are one file in two splits"
    assert problems_of(config) == [
        "a_0_5 (train): a_0_5.avi is empty, it has 0 bytes",
        "c_3_4 (val): c_3_4.avi cannot be read: No such file or directory",
        twice,
    ]
    (tmp_path / "d_7_9.avi").unlink()
    touch(tmp_path, "d_7_9.avi")
    rows = benchmark_manifest(config, splits=("test",)).to_pylist()
    uris = [row["uri"].removeprefix(f"{tmp_path}/") for row in rows]
    assert uris == ["", "-b_1_2.avi", "", "d_7_9.avi"]


def test_links_to_folders_and_a_second_name_of_a_file_are_usual_on_clusters(tmp_path):
    videos, root = tmp_path / "archive", tmp_path / "root"
    write_msvd(tmp_path)
    touch(videos, "a_0_5.avi", "-b_1_2.avi", "c_3_4.avi", "d_7_9.avi")
    root.mkdir()
    (root / "all").symlink_to(videos)
    (root / "test").mkdir()
    (root / "test" / "d_7_9.avi").symlink_to(videos / "d_7_9.avi")
    (tmp_path / "link").symlink_to(root)
    config = DataConfig(source="msvd", root=str(tmp_path / "link"), annotations=str(tmp_path))
    assert by_id(config)["a_0_5"]["uri"] == str(tmp_path / "link" / "all" / "a_0_5.avi")


def test_ids_and_captions_that_are_no_plain_text(tmp_path):
    write_msvd(tmp_path)
    hostile = "x\x1b[2J"
    (tmp_path / "val_list.txt").write_text(f"c_3_4\n{hostile}\n{'y' * 501}")
    file = tmp_path / "captions_msvd.json"
    captions = json.loads(file.read_text())
    file.write_text(json.dumps({**captions, "a_0_5": ["\ud800", "b\0", " "], hostile: ["one"]}))
    touch(tmp_path, "a_0_5.avi", "-b_1_2.avi", "c_3_4.avi", "d_7_9.avi")
    assert problems_of(DataConfig(source="msvd", root=str(tmp_path))) == [
        "a_0_5 (train) has no caption, or an empty one",
        "a caption of a_0_5 (train) has half of a surrogate pair in it",
        "a caption of a_0_5 (train) has a NUL character in it",
        r"the id 'x\x1b[2J' (val) has control characters in it",
        f"the id '{'y' * 80}…' (val) has 501 characters, and 500 are the most",
    ]


def test_annotation_files_that_are_missing_or_of_another_format(tmp_path):
    config = DataConfig(source="msrvtt", root=str(tmp_path))
    names = ("MSRVTT_data.json", "MSRVTT_train.9k.csv", "MSRVTT_JSFUSION_test.csv")
    missing = " and ".join(str(tmp_path / name) for name in names)
    with pytest.raises(UserError, match=re.escape(f"{missing} are not there; put the data set's")):
        benchmark_manifest(config)
    write_msrvtt(tmp_path)
    for name, text, words in (
        ("MSRVTT_data.json", "{", "cannot be read"),
        ("MSRVTT_data.json", "[]", "does not have its published format"),
        ("MSRVTT_data.json", '{"sentences": [{"caption": "a"}]}', "sentence 0 has no video_id"),
        ("MSRVTT_data.json", '{"sentences": [{"video_id": 1}]}', "sentence 0 is a number, not a"),
        (
            "MSRVTT_data.json",
            '{"sentences": {}}',
            "sentences of the whole is an object, not a list",
        ),
        ("MSRVTT_data.json", '{"a": 1, "a": 2}', "it has twice the key 'a'"),
        ("MSRVTT_data.json", "[" * 99_999, "it is nested too deeply"),
        ("MSRVTT_train.9k.csv", "name\nvideo0\n", "there is no column video_id"),
        ("MSRVTT_JSFUSION_test.csv", "video_id\nvideo9\n", "there is no column sentence"),
        ("MSRVTT_JSFUSION_test.csv", "video_id,sentence\nvideo9,a, b\n", "line 2 has 3 columns"),
    ):
        before = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=re.escape(name)) as caught:
            benchmark_manifest(config)
        assert words in str(caught.value)
        (tmp_path / name).write_text(before)
    write_msvd(tmp_path)
    (tmp_path / "captions_msvd.json").write_text('{"a_0_5": "one caption"}')
    with pytest.raises(UserError, match="the captions of video 'a_0_5' is a string, not a list"):
        benchmark_manifest(DataConfig(source="msvd", root=str(tmp_path)))
    write_activitynet(tmp_path)
    (tmp_path / "val_1.json").write_text('{"v_c": {"sentences": [1]}}')
    with pytest.raises(UserError, match=r"val_1\.json .* a caption of video 'v_c' is a number"):
        benchmark_manifest(DataConfig(source="activitynet", root=str(tmp_path)))
    write_lsmdc(tmp_path)
    (tmp_path / LSMDC_FILES["val"]).write_text("a\tb\n")
    with pytest.raises(
        UserError, match=r"annos_val\.csv .* line 1 has 2 columns, where LSMDC has 6"
    ):
        benchmark_manifest(DataConfig(source="lsmdc", root=str(tmp_path)))
    with pytest.raises(UserError, match=r"data.root '/no' is not a folder"):
        benchmark_manifest(DataConfig(source="msvd", root="/no"))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real annotation files are not beside this")
def test_the_published_files_of_msvd_and_of_the_msrvtt_test(tmp_path):
    lists = {s: (SHARED / "MSVD" / f"{s}_list.txt").read_text().split() for s in ("train", "test")}
    names = json.loads((SHARED / "MSVD" / "captions_msvd.json").read_text())
    touch(tmp_path, *(f"{name}.avi" for name in names))
    manifest = benchmark_manifest(
        DataConfig(source="msvd", root=str(tmp_path), annotations=str(SHARED / "MSVD"))
    )
    rows = manifest.to_pylist()
    counts = {s: sum(row["split"] == s for row in rows) for s in ("train", "val", "test")}
    assert counts == {"train": 1200, "val": 100, "test": 670}
    assert sum(len(row["captions"]) for row in rows if row["split"] == "test") == 27_763
    assert [row["video_id"] for row in rows if row["split"] == "test"] == lists["test"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real annotation files are not beside this")
def test_the_published_lists_of_msrvtt(tmp_path):
    """Its captions are there of a few videos only; the others are given one."""
    mini = json.loads((SHARED / "MSRVTT" / "MSRVTT_data.mini.json").read_text())
    assert len(mini["sentences"]) == 300
    names = ("MSRVTT_train.9k.csv", "MSRVTT_JSFUSION_test.csv")
    for name in names:
        (tmp_path / name).symlink_to(SHARED / "MSRVTT" / name)
    train = (SHARED / "MSRVTT" / names[0]).read_text().split()[1:]
    known = {sentence["video_id"] for sentence in mini["sentences"]}
    mini["sentences"] += [{"video_id": v, "caption": "one"} for v in train if v not in known]
    (tmp_path / "MSRVTT_data.json").write_text(json.dumps(mini))
    touch(tmp_path, *(f"{i % 10}/video{i}.mp4" for i in range(10_000)))
    rows = by_id(DataConfig(source="msrvtt", root=str(tmp_path)))
    splits = [row["split"] for row in rows.values()]
    assert (splits.count("train"), splits.count("test")) == (9000, 1000)
    sentences = {
        text for row in rows.values() if row["split"] == "test" for text in row["captions"]
    }
    assert len(sentences) == 995
    assert len(rows["video0"]["captions"]) == 20


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real annotation files are not beside this")
def test_the_published_formats_of_lsmdc_and_activitynet(tmp_path):
    (sample,) = (SHARED / "LSMDC").iterdir()
    lines = sample.read_text().splitlines(keepends=True)
    for i, name in enumerate(LSMDC_FILES.values()):
        (tmp_path / name).write_text("".join(lines[i::3]))
    touch(tmp_path, *("/".join(["m", line.split("\t")[0] + ".avi"]) for line in lines))
    rows = by_id(DataConfig(source="lsmdc", root=str(tmp_path)))
    assert len(rows) == len(lines) == 5
    (tmp_path / "val_1.json").symlink_to(SHARED / "ActivityNet" / "val_1.first40.json")
    (tmp_path / "train.json").write_text('{"v_t": {"sentences": ["one"]}}')
    published = json.loads((tmp_path / "val_1.json").read_text())
    touch(tmp_path, "v_t.mp4", *(f"{video}.mp4" for video in published))
    rows = by_id(DataConfig(source="activitynet", root=str(tmp_path)))
    assert len(rows) == 41
    paragraph = rows["v_uqiMw7tQ1Cc"]["captions"][0]
    assert paragraph.startswith(
        "A weight lifting tutorial is given. The coach helps the guy in red"
    )
    assert "  " not in paragraph
