"""The files of an index: whole or the former one, whatever happens to the writer."""

import json
import random
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import write_versions

from xpool_platform.errors import UserError
from xpool_platform.search.index_files import (
    INDEX,
    MODELS,
    SEGMENTS,
    STAGES,
    FileEntry,
    Recall,
    SegmentEntry,
    check_hashes,
    check_sizes,
    entries_of,
    finish_folder,
    index_folder,
    parse_segment,
    read_version,
    remove_unnamed,
    segment_bytes,
    write_version,
    writing,
)

SEGMENT = SegmentEntry(
    name="a",
    num_videos=5,
    num_captions=7,
    files={"terms.arrow": FileEntry(num_bytes=3, blake2b="00")},
    first_stage="f",
    removed=[1, 4],
)
VERSION = replace(
    write_versions.version_of(3),
    segments=[SEGMENT, replace(SEGMENT, name="b", removed=[], first_stage="")],
    recall=Recall(at_10=0.995, num_queries=200, whose="captions of the index", num_videos=8),
)


def test_a_version_is_read_as_it_was_written(tmp_path):
    before = time.time()
    written = write_version(tmp_path, VERSION)
    assert before <= written.changed_at <= time.time()
    assert read_version(tmp_path) == written
    assert replace(written, changed_at=0.0) == VERSION
    assert written.num_videos == 3 + 5
    assert [path.name for path in tmp_path.iterdir()] == [INDEX]
    assert (tmp_path / INDEX).stat().st_mode & 0o777 == 0o644


def test_a_segment_is_read_as_it_was_written():
    assert parse_segment(segment_bytes(SEGMENT)) == SEGMENT
    for content in (b"", b"{}", b"[]", b'{"name": "a"}', segment_bytes(SEGMENT)[:-20]):
        with pytest.raises(ValueError, match=r".+"):
            parse_segment(content)


def test_no_index_is_said_with_the_way_to_one(tmp_path):
    with pytest.raises(UserError, match=r"holds no index; make one: python jobs/index\.py"):
        read_version(tmp_path)
    (tmp_path / INDEX).mkdir()
    with pytest.raises(UserError, match=r"index\.json cannot be read: Is a directory"):
        read_version(tmp_path)


def test_another_layout_is_said(tmp_path):
    write_version(tmp_path, replace(VERSION, layout=7))
    with pytest.raises(UserError, match="is an index of layout 7, and this version reads 1"):
        read_version(tmp_path)


GOOD = {"version": 1, "layout": 1, "fingerprint": "", "model": "", "checkpoint": ""} | {
    "num_frames": 1,
    "embed_dim": 1,
    "term_shapes": {},
    "segments": [],
}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[1]",
        b"null",
        b"\xff\xfe",
        b"{}",
        json.dumps(GOOD | {"more": 1}).encode(),
        json.dumps(GOOD | {"segments": 5}).encode(),
        json.dumps(GOOD | {"segments": [{"name": "a"}]}).encode(),
        json.dumps(GOOD | {"num_frames": "many"}).encode(),
        json.dumps(GOOD).encode()[:-1],
    ],
)
def test_a_damaged_index_is_one_clear_error(tmp_path, content):
    (tmp_path / INDEX).write_bytes(json.dumps(GOOD).encode())
    assert read_version(tmp_path).version == 1
    (tmp_path / INDEX).write_bytes(content)
    with pytest.raises(UserError, match=r"index\.json is damaged \(.+\); make the index anew"):
        read_version(tmp_path)


def test_a_users_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert index_folder("films") == tmp_path / "films"
    assert index_folder(f"file://{tmp_path}/a%20b") == tmp_path / "a b"
    with pytest.raises(UserError, match=r"^index is empty; .* --index INDEX"):
        index_folder("")
    with pytest.raises(UserError, match=r"^out is empty; .* --out INDEX"):
        index_folder("", what="out")
    with pytest.raises(UserError, match="'s3://bucket/films' is an object store"):
        index_folder("s3://bucket/films")


def test_a_folder_with_strangers_is_left_alone(tmp_path):
    (tmp_path / "holiday.jpg").touch()
    with (
        pytest.raises(UserError, match=r"has other files in it \(holiday\.jpg\)"),
        writing(tmp_path),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]
    write_version(tmp_path, VERSION)
    with writing(tmp_path):  # a note beside an index is no reason not to change it
        remove_unnamed(tmp_path)
    assert (tmp_path / "holiday.jpg").exists()


def test_what_a_killed_first_job_leaves_is_no_stranger(tmp_path):
    with writing(tmp_path):
        (tmp_path / SEGMENTS / "a.part").mkdir(parents=True)
        (tmp_path / MODELS).mkdir()
    (tmp_path / f"{INDEX}k2j4.part").write_bytes(b"{")
    with writing(tmp_path):
        write_version(tmp_path, VERSION)
        remove_unnamed(tmp_path)
    assert not list(tmp_path.glob("*.part"))


def test_a_place_that_cannot_be_a_folder_is_said(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="cannot be written to: "), writing(folder):
            pass


def test_a_full_disk_is_said_before_work(tmp_path, monkeypatch):
    monkeypatch.setattr("xpool_platform.search.index_files.MIN_FREE_BYTES", 2**62)
    with pytest.raises(UserError, match="MiB of space left, and an index needs"), writing(tmp_path):
        pass
    monkeypatch.undo()
    with writing(tmp_path):  # and the lock is free again
        pass


def test_one_writes_at_a_time(tmp_path):
    with writing(tmp_path):
        again = f"""
from pathlib import Path
from xpool_platform.search.index_files import writing
with writing(Path({str(tmp_path)!r})):
    pass
"""
        done = subprocess.run(
            [sys.executable, "-c", again], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert f"UserError: another job is writing the index {tmp_path}" in done.stderr
    done = subprocess.run([sys.executable, "-c", again], check=False)
    assert done.returncode == 0


def test_the_lock_is_free_after_a_failure(tmp_path):
    with pytest.raises(ZeroDivisionError), writing(tmp_path):
        raise ZeroDivisionError
    with writing(tmp_path):
        pass


def test_only_what_is_not_named_is_removed(tmp_path):
    version = replace(VERSION, model="m")
    write_version(tmp_path, version)
    for kind, names in ((SEGMENTS, "ab"), (STAGES, "f"), (MODELS, "m")):
        for name in (*names, "other", "a.part"):
            (tmp_path / kind / name).mkdir(parents=True)
            (tmp_path / kind / name / "file").touch()
    (tmp_path / "errors.parquet").touch()
    remove_unnamed(tmp_path)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*"))
    assert left == ["first_stages/f", "models/m", "segments/a", "segments/b"]
    assert (tmp_path / "errors.parquet").exists()
    assert all((tmp_path / name / "file").exists() for name in left)


@pytest.fixture
def written(tmp_path):
    part = tmp_path / SEGMENTS / "a.part"
    part.mkdir(parents=True)
    (part / "small").write_bytes(b"some bytes")
    (part / "large").write_bytes(random.Random(0).randbytes(5 * 2**20))
    segment = replace(SEGMENT, files=entries_of(part))
    finish_folder(part, part.with_name("a"))
    return tmp_path, replace(VERSION, segments=[segment])


def test_a_finished_folder_takes_the_place_of_one_that_is_there(written):
    folder = written[0] / SEGMENTS
    assert [path.name for path in folder.iterdir()] == ["a"]
    (folder / "b.part").mkdir()
    (folder / "b.part" / "new").touch()
    finish_folder(folder / "b.part", folder / "a")
    assert [str(path.relative_to(folder)) for path in folder.rglob("*")] == ["a", "a/new"]


def test_a_whole_segment_passes(written):
    folder, version = written
    check_sizes(folder, version.segments[0])
    assert check_hashes(folder, version) == 10 + 5 * 2**20


def test_a_cut_file_and_a_missing_one_are_named(written):
    folder, version = written
    path = folder / SEGMENTS / "a" / "small"
    for content, words in ((b"some", "has 4 of its 10 bytes"), (None, "is gone")):
        path.unlink() if content is None else path.write_bytes(content)
        for check in (
            lambda: check_sizes(folder, version.segments[0]),
            lambda: check_hashes(folder, version),
        ):
            with pytest.raises(UserError, match=f"a/small {words}; the index is damaged"):
                check()


@pytest.mark.parametrize("place", [0, 2**22, 5 * 2**20 - 1])
def test_one_bit_that_flipped_is_found(written, place):
    folder, version = written
    path = folder / SEGMENTS / "a" / "large"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    check_sizes(folder, version.segments[0])
    with pytest.raises(UserError, match="a/large is not what was written: its hash differs"):
        check_hashes(folder, version)


def test_a_writer_that_is_killed_again_and_again_leaves_whole_versions(tmp_path):
    rng = random.Random(0)
    last = num_reads = 0
    seen = set()
    for _ in range(10):
        process = subprocess.Popen(
            [sys.executable, write_versions.__file__, str(tmp_path)], stdout=subprocess.PIPE
        )
        process.stdout.readline()
        until = time.monotonic() + rng.uniform(0.005, 0.15)
        is_killed = False
        while not is_killed:
            if time.monotonic() > until:
                process.kill()
                process.wait(10)
                is_killed = True
            version = read_version(tmp_path)
            assert replace(version, changed_at=0.0) == write_versions.version_of(version.version)
            assert version.version >= last
            last = version.version
            seen.add(last)
            num_reads += 1
        said = [int(line) for line in process.communicate()[0].split()]
        assert last >= max(said, default=0)  # what the writer called written is there
    assert len(seen) > 10
    assert num_reads > len(seen) / 2
    with writing(tmp_path):
        write_version(tmp_path, write_versions.version_of(last + 1))
        remove_unnamed(tmp_path)
    assert read_version(tmp_path).version == last + 1
    assert {path.name for path in tmp_path.iterdir()} == {INDEX, ".lock"}
