"""The field's benchmarks from their published annotation files: MSR-VTT, MSVD, LSMDC, ActivityNet.

An adapter reads a data set's own files into its videos and their captions by split;
`benchmark_manifest` finds the video files.
"""

from dataclasses import dataclass
from pathlib import Path

from xpool_platform.data.plain_text import shown
from xpool_platform.data.published_files import (
    FormatError,
    field,
    of_kind,
    published_files,
    published_format,
    read_columns,
    read_json,
    texts,
)
from xpool_platform.data.text_files import open_text

LSMDC_WITHOUT_VIDEO = "1012_Unbreakable_00.05.16.065-00.05.21.941"
"""A clip that nobody has; the field leaves it out."""

LSMDC_FILES = {
    "train": "LSMDC16_annos_training.csv",
    "val": "LSMDC16_annos_val.csv",
    "test": "LSMDC16_challenge_1000_publictect.csv",
}
LSMDC_COLUMNS = 6

MSVD_FILES = {"train": "train_list.txt", "val": "val_list.txt", "test": "test_list.txt"}

ACTIVITYNET_FILES = {"train": "train.json", "test": "val_1.json"}
ACTIVITYNET_PREFIX = "v_"


@dataclass(frozen=True, slots=True)
class AnnotatedVideo:
    """A video of a benchmark, by its id."""

    video_id: str
    split: str
    captions: list[str]

    other_name: str = ""
    """What its file may be called instead of the id."""


def read_msrvtt(folder: Path, train_list: str) -> list[AnnotatedVideo]:
    """MSR-VTT: the training list `9k` or `7k` with all captions, and the 1k-A test pairs.

    Files: MSRVTT_data.json, MSRVTT_train.9k.csv or .7k.csv, MSRVTT_JSFUSION_test.csv. There is no
    validation split. Raises UserError for what is missing or malformed.
    """
    data_file, train_file, test_file = published_files(
        folder,
        *("MSRVTT_data.json", f"MSRVTT_train.{train_list}.csv", "MSRVTT_JSFUSION_test.csv"),
    )
    captions: dict[str, list[str]] = {}
    with published_format(data_file):
        sentences = field(read_json(data_file), "sentences", list, "the whole")
        for number, sentence in enumerate(sentences):
            what = f"sentence {number}"
            video_id = field(sentence, "video_id", str, what).strip()
            captions.setdefault(video_id, []).append(field(sentence, "caption", str, what).strip())
    with published_format(train_file):
        train = [video_id for (video_id,) in read_columns(train_file, "video_id")]
    with published_format(test_file):
        test = read_columns(test_file, "video_id", "sentence")
    return [
        *(AnnotatedVideo(video_id, "train", captions.get(video_id, [])) for video_id in train),
        *(AnnotatedVideo(video_id, "test", [sentence]) for video_id, sentence in test),
    ]


def read_msvd(folder: Path) -> list[AnnotatedVideo]:
    """MSVD: all captions of each video, 1,200, 100 and 670 videos.

    Files: captions_msvd.json and those of MSVD_FILES. Raises UserError for what is missing or
    malformed.
    """
    file, *lists = published_files(folder, "captions_msvd.json", *MSVD_FILES.values())
    with published_format(file):
        captions = {
            video_id: texts(its, f"video {shown(video_id)}")
            for video_id, its in of_kind(read_json(file), dict, "the whole").items()
        }
    videos = []
    for split, list_file in zip(MSVD_FILES, lists, strict=True):
        with open_text(list_file) as lines:
            ids = lines.read().split()
        videos += [AnnotatedVideo(video_id, split, captions.get(video_id, [])) for video_id in ids]
    return videos


def read_lsmdc(folder: Path) -> list[AnnotatedVideo]:
    """LSMDC: a caption a clip; 1,000 test pairs.

    Files: those of LSMDC_FILES, tab-separated without a header. Raises UserError for what is
    missing or malformed.
    """
    captions: dict[tuple[str, str], list[str]] = {}
    paths = published_files(folder, *LSMDC_FILES.values())
    for split, path in zip(LSMDC_FILES, paths, strict=True):
        with published_format(path), open_text(path, newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                columns = line.rstrip("\r\n").split("\t")
                if not line.strip():
                    continue
                if len(columns) != LSMDC_COLUMNS:
                    raise FormatError(
                        f"line {number} has {len(columns)} columns, where LSMDC has "
                        f"{LSMDC_COLUMNS} between tabs"
                    )
                clip = columns[0].strip()
                if clip != LSMDC_WITHOUT_VIDEO:
                    captions.setdefault((clip, split), []).append(columns[-1].strip())
    return [AnnotatedVideo(clip, split, its) for (clip, split), its in captions.items()]


def read_activitynet(folder: Path) -> list[AnnotatedVideo]:
    """ActivityNet Captions: all sentences of a video are one caption, its paragraph.

    Files: those of ACTIVITYNET_FILES; the field tests on the first validation set. Files of the
    videos go by the id with or without `v_`. Raises UserError for what is missing or malformed.
    """
    videos = []
    paths = published_files(folder, *ACTIVITYNET_FILES.values())
    for split, path in zip(ACTIVITYNET_FILES, paths, strict=True):
        with published_format(path):
            for video_id, its in of_kind(read_json(path), dict, "the whole").items():
                what = f"video {shown(video_id)}"
                sentences = texts(field(its, "sentences", list, what), what)
                paragraph = " ".join(sentence for sentence in sentences if sentence)
                other_name = video_id.removeprefix(ACTIVITYNET_PREFIX)
                videos.append(AnnotatedVideo(video_id, split, [paragraph], other_name))
    return videos
