"""Damaged and hostile annotation files: each ends in a manifest that holds or in a UserError.

The mutations are seeded; a case that fails is named by its format and seed.
"""

import csv
import io
import json
import math
import random
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xpool_platform.data.benchmark_manifest import benchmark_manifest
from xpool_platform.data.benchmark_sets import LSMDC_FILES
from xpool_platform.data.folder_manifest import folder_manifest
from xpool_platform.data.manifest import SCHEMA, SPLITS
from xpool_platform.data.plain_text import NOT_IN_IDS, caption_problem, id_problem
from xpool_platform.data_config import DataConfig
from xpool_platform.errors import UserError

SEEDS_OF_EACH = 60
LIMIT_S = 10.0

VIDEOS = ("a.mp4", "b.mp4", "sub/c.mkv", "v_d.avi")

OWN_ROWS = [
    {"video": "a.mp4", "caption": "a dog, running", "split": "train", "start_s": 0.5, "end_s": 2.0},
    {"video": "a.mp4", "caption": "läuft", "split": "train", "start_s": 2.0, "end_s": 3.0},
    {"video": "b", "caption": 'says "hello"', "split": "val", "start_s": None, "end_s": None},
    {"video": "sub/c", "caption": "a cat", "split": "test", "start_s": None, "end_s": 9.0},
]
HEADER = ("video", "caption", "split", "start_s", "end_s")

HOSTILE = (
    *(b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r", b"\r\n", b"\n\n", b'"', b'""'),
    *(b",", b"\t", b"\\ud800", b"\\u0000", b"NaN", b"1e999", b"-1", b"null", b"true", b"{}", b"[]"),
    *(b"[" * 5000, b'{"a":' * 5000, b"9" * 5000, b"x" * 150_000, b"\xf0\x9f\x98\x80" * 300),
    *(b"../../etc/passwd", b"/etc/passwd", b"sub/../a.mp4", b"..", b".", b"/", b"a.mp4\n" * 999),
    *(b"\x1b[2J", b"\xe2\x80\xa8", b"\x1a", b"=cmd()", b"%s%n", b"${HOME}", b"train", b"test"),
    *(b"video", b"caption", b'"video": "b", ', b"start_s", b"PAR1", b"\xff" * 64, b"\0" * 4096),
)
VALUES = (None, True, 0, -1, 1e999, 10**400, 0.5, "", " ", "\0", "\ud800", [], {}, [[]], [None])


def own_csv(delimiter: str) -> bytes:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter).writerows([HEADER, *(r.values() for r in OWN_ROWS)])
    return file.getvalue().encode()


def own_parquet() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(OWN_ROWS), file, row_group_size=3, compression="none")
    return file.getvalue()


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


MSRVTT_DATA = {
    "info": {},
    "videos": [{"video_id": "a", "split": "train", "id": 0}],
    "sentences": [{"caption": f"{v} {i}", "video_id": v} for v in "ab" for i in range(2)],
}
MSVD_CAPTIONS = {"a": ["one", "one"], "b": ["two"], "c": ["three"]}
ACTIVITYNET = {"v_a": {"duration": 5.5, "timestamps": [[0, 1]], "sentences": ["One.", " Two."]}}

FORMATS: dict[str, dict[str, bytes]] = {
    "csv": {"captions.csv": own_csv(",")},
    "tsv": {"captions.tsv": own_csv("\t")},
    "jsonl": {"captions.jsonl": b"\n".join(as_json(row) for row in OWN_ROWS)},
    "parquet": {"captions.parquet": own_parquet()},
    "txt": {"a.txt": b"one\ntwo\n", "b.txt": b"three\n", "sub/c.txt": b"four", "v_d.txt": b"five"},
    "msrvtt": {
        "MSRVTT_data.json": as_json(MSRVTT_DATA),
        "MSRVTT_train.9k.csv": b"video_id\na\nb\n",
        "MSRVTT_JSFUSION_test.csv": b'key,vid_key,video_id,sentence\nret0,msr0,c,"a, b"\n',
    },
    "msvd": {
        "captions_msvd.json": as_json(MSVD_CAPTIONS),
        "train_list.txt": b"a\n",
        "val_list.txt": b"b\n",
        "test_list.txt": b"c\n",
    },
    "lsmdc": {
        name: "\t".join([clip, *["00.00"] * 4, f"SOMEONE {clip}."]).encode() + b"\r\n"
        for clip, name in zip("abc", LSMDC_FILES.values(), strict=True)
    },
    "activitynet": {
        "train.json": as_json(ACTIVITYNET),
        "val_1.json": as_json({"v_d": {"sentences": ["Three."]}}),
    },
}


def read(kind: str, root: Path) -> pa.Table:
    if kind in ("msrvtt", "msvd", "lsmdc", "activitynet"):
        return benchmark_manifest(DataConfig(source=kind, root=str(root)))
    return folder_manifest(root)


def write(kind: str, root: Path, changed: dict[str, bytes]) -> None:
    for video in VIDEOS:
        (root / video).parent.mkdir(parents=True, exist_ok=True)
        (root / video).write_bytes(b"\0")
    for name, content in {**FORMATS[kind], **changed}.items():
        (root / name).write_bytes(content)


def flip(content: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(chance.choice((1, 1, 3, 30))):
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def truncate(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def insert(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content) + 1)
    return content[:at] + chance.choice(HOSTILE) + content[at + chance.choice((0, 0, 1, 9)) :]


def double(content: bytes, chance: random.Random) -> bytes:
    start, end = sorted(chance.randrange(len(content) + 1) for _ in range(2))
    return content[:end] + content[start:]


def retype(content: bytes, chance: random.Random) -> bytes:
    """Another value in the place of one, where the file is JSON; in text a hostile word."""
    lines = content.split(b"\n") if content.startswith(b'{"video"') else [content]
    which = chance.randrange(len(lines))
    try:
        value = json.loads(lines[which])
    except (ValueError, RecursionError):
        words = content.split(b",")
        words[chance.randrange(len(words))] = chance.choice(HOSTILE)
        return b",".join(words)
    lines[which] = as_json(replaced(value, chance))
    return b"\n".join(lines)


def replaced(value: object, chance: random.Random) -> object:
    if chance.random() < 0.2 or not isinstance(value, list | dict) or not value:
        return chance.choice(VALUES)
    if isinstance(value, list):
        at = chance.randrange(len(value))
        return [replaced(v, chance) if i == at else v for i, v in enumerate(value)]
    at = chance.choice(list(value))
    return {key: replaced(v, chance) if key == at else v for key, v in value.items()}


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(flip, truncate, insert, insert, double, retype),
)


def assert_valid(manifest: pa.Table, root: Path) -> None:
    assert manifest.schema == SCHEMA
    manifest.validate(full=True)
    rows = manifest.to_pylist()
    assert len({row["video_id"] for row in rows}) == len(rows)
    split_of: dict[str, str] = {}
    for row in rows:
        assert id_problem(row["video_id"]) is None
        assert Path(row["uri"]).is_file()
        assert Path(row["uri"]).is_relative_to(root)
        assert row["split"] in SPLITS
        assert split_of.setdefault(row["uri"], row["split"]) == row["split"]
        assert row["captions"]
        assert all(caption_problem(caption) is None for caption in row["captions"])
        start_s, end_s = row["start_s"] or 0.0, row["end_s"]
        assert math.isfinite(start_s)
        assert end_s is None or (math.isfinite(end_s) and 0 <= start_s < end_s)


def assert_clear(message: str, root: Path) -> None:
    """It names the file, and nothing in it moves a terminal's cursor or hides the rest."""
    assert str(root) in message
    assert len(message) < 50_000
    controls = [c for c in message if c != "\n" and unicodedata.category(c) in NOT_IN_IDS]
    assert not controls, message


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_as_it_should_be_is_read(kind, tmp_path):
    write(kind, tmp_path, {})
    manifest = read(kind, tmp_path)
    assert_valid(manifest, tmp_path)
    assert len(manifest) >= 2


@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_file_ends_in_a_manifest_or_an_error_of_the_user(kind, tmp_path):
    refused = 0
    for seed in range(SEEDS_OF_EACH):
        chance = random.Random(f"{kind} {seed}")
        root = tmp_path / str(seed)
        name = chance.choice(list(FORMATS[kind]))
        mutations = chance.choices(MUTATIONS, k=chance.choice((1, 1, 2)))
        content = FORMATS[kind][name]
        for mutate in mutations:
            content = mutate(content or b" ", chance)
        write(kind, root, {name: content})
        began = time.monotonic()
        try:
            assert_valid(read(kind, root), root)
        except UserError as error:
            refused += 1
            assert_clear(str(error), root)
        except Exception as error:
            raise AssertionError(
                f"{kind}, seed {seed}: {[m.__name__ for m in mutations]}"
            ) from error
        assert time.monotonic() - began < LIMIT_S, f"{kind}, seed {seed}"
    assert 0 < refused < SEEDS_OF_EACH
