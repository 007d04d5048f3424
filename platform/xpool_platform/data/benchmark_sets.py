"""The field's benchmarks from their published annotation files: MSR-VTT, MSVD, LSMDC.

An adapter reads a data set's own files into its videos and their captions by split;
`benchmark_manifest` finds the video files.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xpool_platform.errors import UserError

LSMDC_WITHOUT_VIDEO = "1012_Unbreakable_00.05.16.065-00.05.21.941"
"""A clip that nobody has; the field leaves it out."""

LSMDC_FILES = {
    "train": "LSMDC16_annos_training.csv",
    "val": "LSMDC16_annos_val.csv",
    "test": "LSMDC16_challenge_1000_publictect.csv",
}
LSMDC_COLUMNS = 6


@dataclass(frozen=True, slots=True)
class AnnotatedVideo:
    """A video of a benchmark, by its id."""

    video_id: str
    split: str
    captions: list[str]


def read_msrvtt(folder: Path, train_list: str) -> list[AnnotatedVideo]:
    """MSR-VTT: the training list `9k` or `7k` with all captions, and the 1k-A test pairs.

    Files: MSRVTT_data.json, MSRVTT_train.9k.csv or .7k.csv, MSRVTT_JSFUSION_test.csv. There is no
    validation split. Raises UserError for what is missing or malformed.
    """
    captions: dict[str, list[str]] = {}
    data = _parsed(folder / "MSRVTT_data.json", json.loads)
    with _published_format(folder / "MSRVTT_data.json"):
        for sentence in data["sentences"]:
            captions.setdefault(sentence["video_id"], []).append(sentence["caption"].strip())
    list_file = folder / f"MSRVTT_train.{train_list}.csv"
    with _published_format(list_file):
        train = [row["video_id"] for row in _parsed(list_file, _csv_rows)]
    test_file = folder / "MSRVTT_JSFUSION_test.csv"
    with _published_format(test_file):
        test = [(row["video_id"], row["sentence"].strip()) for row in _parsed(test_file, _csv_rows)]
    return [
        *(AnnotatedVideo(video_id, "train", captions.get(video_id, [])) for video_id in train),
        *(AnnotatedVideo(video_id, "test", [sentence]) for video_id, sentence in test),
    ]


def read_msvd(folder: Path) -> list[AnnotatedVideo]:
    """MSVD: all captions of each video, 1,200, 100 and 670 videos.

    Files: captions_msvd.json, train_list.txt, val_list.txt, test_list.txt. Raises UserError for
    what is missing or malformed.
    """
    file = folder / "captions_msvd.json"
    captions = _parsed(file, json.loads)
    videos = []
    with _published_format(file):
        for split in ("train", "val", "test"):
            for video_id in _parsed(folder / f"{split}_list.txt", str.split):
                texts = [text.strip() for text in captions.get(video_id, [])]
                videos.append(AnnotatedVideo(video_id, split, texts))
    return videos


def read_lsmdc(folder: Path) -> list[AnnotatedVideo]:
    """LSMDC: a caption a clip; 1,000 test pairs.

    Files: those of LSMDC_FILES, tab-separated without a header. Raises UserError for what is
    missing or malformed.
    """
    captions: dict[tuple[str, str], list[str]] = {}
    for split, name in LSMDC_FILES.items():
        lines = _parsed(folder / name, lambda text: text.split("\n"))
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            columns = line.rstrip("\r").split("\t")
            if len(columns) != LSMDC_COLUMNS:
                raise UserError(
                    f"{folder / name}, line {number}: {len(columns)} columns, where LSMDC has "
                    f"{LSMDC_COLUMNS} between tabs; take the file as it was published"
                )
            if columns[0] != LSMDC_WITHOUT_VIDEO:
                captions.setdefault((columns[0], split), []).append(columns[-1].strip())
    return [AnnotatedVideo(clip, split, texts) for (clip, split), texts in captions.items()]


def _parsed(path: Path, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(
            f"{path} is not there; put the data set's annotation files into one folder and give it "
            "as --data.annotations, or as --data.root if the videos are below it, too"
        ) from None
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _csv_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), strict=True))


@contextmanager
def _published_format(path: Path) -> Iterator[None]:
    """Whatever is not where the format has it becomes a UserError that names the file."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} does not have its published format ({type(error).__name__}: {error}); take "
            "the file as it was published"
        ) from error
