"""MSR-VTT, MSVD and LSMDC from files in their published formats."""

import json
import re
from pathlib import Path

import pytest

from xpool_platform.config import DataConfig
from xpool_platform.data.benchmark_manifest import benchmark_manifest
from xpool_platform.data.benchmark_sets import LSMDC_FILES, LSMDC_WITHOUT_VIDEO
from xpool_platform.errors import UserError

SHARED = Path(__file__).parents[3] / "shared" / "annotations"


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


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
    with pytest.raises(UserError) as caught:
        benchmark_manifest(DataConfig(source="msrvtt", root=str(tmp_path)))
    message = str(caught.value)
    for words in (
        "5 problems",
        "video9 is listed 2 times",
        "video0 has 2 video files: a/video0.mp4 and b/video0.avi",
        "video1 (train) has no video file",
        "video77 (train) has no video file",
        "video77 (train) has no caption",
    ):
        assert words in message


def test_annotation_files_that_are_missing_or_of_another_format(tmp_path):
    config = DataConfig(source="msrvtt", root=str(tmp_path))
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / 'MSRVTT_data.json'} is not there")):
        benchmark_manifest(config)
    write_msrvtt(tmp_path)
    for name, text, words in (
        ("MSRVTT_data.json", "{", "cannot be read"),
        ("MSRVTT_data.json", "[]", "does not have its published format"),
        ("MSRVTT_data.json", '{"sentences": [{"caption": "a"}]}', "KeyError: 'video_id'"),
        ("MSRVTT_train.9k.csv", "name\nvideo0\n", "KeyError: 'video_id'"),
        ("MSRVTT_JSFUSION_test.csv", "video_id\nvideo9\n", "KeyError: 'sentence'"),
    ):
        before = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=re.escape(name)) as caught:
            benchmark_manifest(config)
        assert words in str(caught.value)
        (tmp_path / name).write_text(before)
    write_lsmdc(tmp_path)
    (tmp_path / LSMDC_FILES["val"]).write_text("a\tb\n")
    with pytest.raises(UserError, match=r"annos_val.csv, line 1: 2 columns, where LSMDC has 6"):
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
