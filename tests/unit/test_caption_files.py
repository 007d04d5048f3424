"""Captions in every format that is taken, and the ways in which a file of them is none."""

import json
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xpool_platform.config import ExperimentConfig
from xpool_platform.data import text_files
from xpool_platform.data.folder_manifest import folder_manifest
from xpool_platform.data_config import DataConfig
from xpool_platform.errors import UserError
from xpool_platform.prepare import own_manifest

ROWS = [
    {"video": "a.mp4", "caption": "a dog, running", "split": "train"},
    {"video": "a.mp4", "caption": "ein Hund läuft", "split": "train"},
    {"video": "sub/b.mkv", "caption": 'a "cat"', "split": "test", "start_s": 0.5, "end_s": 2.0},
    {"video": "b", "caption": "a bird", "split": "test", "start_s": 3.0, "video_id": "bird"},
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for name in ("a.mp4", "sub/b.mkv"):
        (tmp_path / name).write_bytes(b"\0")
    return tmp_path


def as_csv(rows: list[dict], delimiter: str) -> str:
    names = ("video", "caption", "split", "start_s", "end_s", "video_id")
    lines = [names, *([str(row.get(name, "")) for name in names] for row in rows)]
    quoted = [['"' + text.replace('"', '""') + '"' for text in line] for line in lines]
    return "".join(delimiter.join(line) + "\r\n" for line in quoted)


def as_jsonl(rows: list[dict]) -> str:
    return "".join(json.dumps(row) + "\n\n" for row in rows)


def problems_of(root: Path, annotations: Path | None = None) -> list[str]:
    with pytest.raises(UserError) as caught:
        folder_manifest(root, annotations)
    return [line.strip() for line in str(caught.value).split("\n")[1:-1]]


def write(root: Path, suffix: str, bom: bytes) -> None:
    path = root / f"captions.{suffix}"
    if suffix == "parquet":
        strings = [(name, pa.string()) for name in ("video", "caption", "split", "video_id")]
        schema = pa.schema([*strings, ("start_s", pa.float32()), ("end_s", pa.float64())])
        pq.write_table(pa.Table.from_pylist(ROWS, schema=schema), path)
    elif suffix == "jsonl":
        path.write_bytes(bom + as_jsonl(ROWS).encode())
    else:
        path.write_bytes(bom + as_csv(ROWS, "," if suffix == "csv" else "\t").encode())


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_all_formats_say_the_same(root, suffix, bom):
    write(root, suffix, bom)
    a, b = str(root / "a.mp4"), str(root / "sub" / "b.mkv")
    rows = folder_manifest(root).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("a.mp4", a, "train", ["a dog, running", "ein Hund läuft"], None, None),
        ("sub/b.mkv#0.5-2", b, "test", ['a "cat"'], 0.5, 2.0),
        ("bird", b, "test", ["a bird"], 3.0, None),
    ]


def test_texts_beside_the_videos(root):
    (root / "a.txt").write_text("\n a dog \n\nanother dog\n")
    (root / "sub" / "b.txt").write_text("a cat")
    rows = folder_manifest(root).to_pylist()
    assert [(row["video_id"], row["captions"], row["split"]) for row in rows] == [
        ("a.mp4", ["a dog", "another dog"], "train"),
        ("sub/b.mkv", ["a cat"], "train"),
    ]
    files = {
        **{f"{name}.mp4": b"\0" for name in ("c", "f", "g", "h", "i", ".hidden")},
        "d.txt": b"one",
        "e.mp4": b"",
        "e.txt": b"two",
        "f.txt": b" \n",
        "g.avi": b"\0",
        "g.txt": b"three",
        "h.txt": b"one\none\n",
        "i.txt": b"fine\ncaf\xe9\n",
    }
    for name, content in files.items():
        (root / name).write_bytes(content)
    assert problems_of(root) == [
        "c.mp4: no .txt of this name with captions is beside it",
        "d.txt: no video of this name is beside it",
        "e.txt, line 1: e.mp4 is empty, it has 0 bytes",
        "f.txt: no caption for f.mp4",
        "g.txt: one text and one video belong together: g.txt and g.avi and g.mp4",
        "h.txt, line 2: the caption of h.txt, line 1 again",
        f"i.txt: {root / 'i.txt'} is not UTF-8 text (line 2: invalid continuation byte); save it "
        "as UTF-8",
    ]


def test_a_text_from_elsewhere_is_not_read(root, tmp_path_factory):
    secret = tmp_path_factory.mktemp("elsewhere") / "secret"
    secret.write_text("a secret")
    (root / "a.txt").symlink_to(secret)
    (root / "sub" / "b.txt").write_text("a cat")
    assert problems_of(root) == ["a.txt: it lies outside the folder"]


def test_annotations_are_a_file_or_a_folder_with_one(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "captions.jsonl").write_text('{"video": "a", "caption": "elsewhere"}')
    (elsewhere / "other.TSV").write_text("video\tcaption\na.mp4\tother\n")
    (root / "captions.csv").write_text("video,caption\na.mp4,in the root\n")
    for annotations, caption in (
        (None, "in the root"),
        (elsewhere, "elsewhere"),
        (elsewhere / "other.TSV", "other"),
    ):
        data = DataConfig(root=str(root), annotations=str(annotations or ""))
        manifest = own_manifest(ExperimentConfig(data=data))
        assert manifest["captions"].to_pylist() == [[caption]]
    with pytest.raises(UserError, match="nowhere' is not there; give a file of captions"):
        folder_manifest(root, elsewhere / "nowhere")
    with pytest.raises(UserError, match=r"a\.mp4' is none of \.csv, \.tsv, \.jsonl, \.parquet"):
        folder_manifest(root, root / "a.mp4")
    with pytest.raises(UserError, match=r"data\.annotations .* has no captions\.csv"):
        folder_manifest(root, root / "sub")
    (root / "captions.tsv").write_text("video\tcaption\n")
    with pytest.raises(UserError, match=r"has captions\.csv and captions\.tsv; leave one of them"):
        folder_manifest(root)


def test_a_line_of_json_of_another_kind(root):
    lines = (
        '{"video": "a", "caption": ["one", "two"]}',
        "{]",
        '["a", "b"]',
        '{"video": 5, "caption": "three"}',
        '{"video": "a", "caption": ["four", 4, null, " "]}',
        '{"video": "a", "caption": []}',
        '{"video": "a", "caption": "five", "start_s": "1"}',
        '{"video": "a", "caption": "six", "start_s": true, "split": 1}',
        '{"video": "a", "caption": "seven", "end_s": 1' + "0" * 400 + "}",
        '{"video": "a", "caption": "eight", "end_s": NaN}',
        '{"video": "a", "caption": "\\ud800"}',
        '{"video": "\\ud800", "caption": "nine\\u0000"}',
        '{"video": "a", "video": "b", "caption": "ten"}',
        "[" * 100_000,
        '{"video": "a", "caption": {"text": "eleven"}}',
        '{"video": "a", "caption": ' + "9" * 5000 + "}",
    )
    (root / "captions.jsonl").write_text("\n".join(lines))
    problems = problems_of(root)
    assert problems.pop(1).startswith("line 3: a list")
    assert problems.pop(0).startswith("line 2: not JSON: Expecting property name enclosed in")
    assert problems == [
        "line 4: video is a number, not a string",
        "line 5: caption is a number, not a string",
        "line 5: caption is null, not a string",
        "line 5: no caption for a",
        "line 6: no caption for a",
        "line 7: start_s is '1', not a number of seconds",
        "line 8: split is a number, not a string",
        "line 8: start_s is true or false, not a number of seconds",
        "line 9: end_s is inf, not a time in seconds",
        "line 10: end_s is nan, not a time in seconds",
        "line 11: the caption for a has half of a surrogate pair in it",
        r"line 12: video '\ud800' has control characters in it",
        "line 12: the caption has a NUL character in it",
        "line 13: not JSON to be read: it has twice the key 'video'",
        "line 14: not JSON to be read: it is nested too deeply",
        "line 15: caption is an object, not a string",
        "line 16: not JSON to be read: it has a number of 5000 digits",
    ]


@pytest.mark.parametrize(
    ("csv", "problem"),
    [
        ("file,text\na,b\n", "no column video and no column caption; its header is 'file, text'"),
        ("", "its header is empty"),
        ("video,caption\n", "has no captions in it"),
        ("video,caption,caption\na.mp4,b,c\n", "has 2 columns caption"),
        ('video,caption\na.mp4,"b\n\n\n', "line 2: not well-formed: unexpected end of data"),
        (f"video,caption\na.mp4,{'b' * 200_000}\n", "line 2: not well-formed: field larger than"),
        (f"video,caption\na.mp4,{'b' * 110_000}\n", "has 110000 characters, and 100000 are"),
    ],
)
def test_a_csv_of_another_form(root, csv, problem):
    (root / "captions.csv").write_text(csv)
    with pytest.raises(UserError, match=problem) as caught:
        folder_manifest(root)
    assert str(root / "captions.csv") in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_caption_over_two_lines_is_named_by_its_first(root):
    (root / "captions.csv").write_text('video,caption\r\n\r\na.mp4,"one\r\ntwo"\r\ngone,"x\ny"\r\n')
    assert problems_of(root) == ["line 5: gone is not there"]


@pytest.mark.parametrize("name", ["captions.csv", "captions.jsonl"])
def test_text_that_is_not_utf8_is_a_clear_error(root, name):
    (root / name).write_bytes(b"video,caption\n" * 5000 + b"a.mp4,caf\xe9\n" + b"a,b\n" * 5000)
    with pytest.raises(UserError, match=r"not UTF-8 text \(line 5001: invalid continuation byte"):
        folder_manifest(root)
    (root / name).write_text("video,caption\na,b\n", encoding="utf-16")
    with pytest.raises(UserError, match=r"not UTF-8 text \(line 1: invalid start byte"):
        folder_manifest(root)


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"video": ["a"]}, "has no column caption"),
        (
            {"video": [1], "caption": ["one"]},
            "column video is of type int64, and should be strings",
        ),
        ({"video": ["a"], "caption": [["one"]]}, "column caption is of type list<"),
        ({"video": ["a"], "caption": [b"one"]}, "column caption is of type binary"),
        (
            {"video": ["a"], "caption": ["one"], "start_s": ["1"]},
            "column start_s is of type string, and should be numbers",
        ),
        ({"video": ["a", None], "caption": ["one", "two"]}, "row 2: no video"),
        ({"video": ["a"] * 3, "caption": ["1", "2", "1"]}, "row 3: the caption of row 1 again"),
    ],
)
def test_a_parquet_of_another_form(root, columns, problem):
    pq.write_table(pa.table(columns), root / "captions.parquet", row_group_size=2)
    with pytest.raises(UserError) as caught:
        folder_manifest(root)
    assert problem in str(caught.value)


def test_a_parquet_that_is_none_or_has_broken_text(root):
    path = root / "captions.parquet"
    for content in (b"", b"PAR1PAR1", b"PAR1" + b"\xff" * 100 + b"PAR1", b"video,caption\n"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"captions\.parquet cannot be read as Parquet"):
            folder_manifest(root)
    broken = pa.array([b"caf\xe9"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"video": ["a"], "caption": broken}), path)
    with pytest.raises(UserError, match=r"captions\.parquet cannot be read as Parquet: .*utf-8"):
        folder_manifest(root)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("the metadata was unpickled",))


def test_metadata_of_a_parquet_is_not_unpickled(root):
    hostile = {b"pandas": b"{", b"bomb": pickle.dumps(Bomb())}
    extension = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(Bomb()),
    }
    caption = pa.field("caption", pa.string(), metadata=extension)
    fields = [pa.field("video", pa.string()), caption]
    table = pa.Table.from_pylist([{"video": "a", "caption": "one"}], schema=pa.schema(fields))
    pq.write_table(table.replace_schema_metadata(hostile), root / "captions.parquet")
    assert folder_manifest(root)["captions"].to_pylist() == [["one"]]
    hostile = {b"ARROW:schema": b"no schema"}
    pq.write_table(table.replace_schema_metadata(hostile), root / "captions.parquet")
    with pytest.raises(UserError, match=r"captions\.parquet cannot be read as Parquet"):
        folder_manifest(root)


def test_dictionaries_large_strings_and_columns_without_a_value_are_taken(root):
    table = pa.table(
        {
            "video": pa.array(["a", "b"]).dictionary_encode(),
            "caption": pa.array(["one", "two"], pa.large_string()),
            "split": pa.nulls(2),
            "start_s": pa.array([1, None], pa.int16()),
            "index": [[0], [1]],
        }
    )
    pq.write_table(table, root / "captions.parquet")
    assert folder_manifest(root)["video_id"].to_pylist() == ["a#1-", "b"]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_a_file_that_is_too_large_is_refused_unread(root, suffix):
    path = root / f"captions.{suffix}"
    with path.open("wb") as file:
        file.truncate(text_files.MAX_BYTES + 1)
    with pytest.raises(UserError, match=r"has 2\.0 GiB, and a file of captions may have 2;"):
        folder_manifest(root)
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match="is no regular file"):
        folder_manifest(root)


def test_a_parquet_that_unpacks_without_end_is_refused(root, monkeypatch):
    from xpool_platform.data import captions_parquet

    table = pa.table({"video": ["a"] * 5000, "caption": ["one" * 1000] * 5000})
    pq.write_table(table, root / "captions.parquet")
    assert (root / "captions.parquet").stat().st_size < 20_000
    monkeypatch.setattr(captions_parquet, "MAX_BYTES", 2**22)
    with pytest.raises(UserError, match="unpacks to more than"):
        folder_manifest(root)
