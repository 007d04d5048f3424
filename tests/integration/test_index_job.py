"""jobs/index.py on small files, whole, changed and killed."""

import io
import os
import random
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import finish, processes_of, start_job
from tiny_index import add_to_index, some_videos
from tiny_model import TEXTS, scores_of, tiny_checkpoint

from videos import write_video
from xpool_platform.console import Console
from xpool_platform.errors import UserError
from xpool_platform.experiments import shapes
from xpool_platform.runtime import ray_session
from xpool_platform.search.command import search_by_text
from xpool_platform.search.config import SearchConfig
from xpool_platform.search.defaults import index_defaults
from xpool_platform.search.index_files import INDEX, SEGMENTS, check_hashes, read_version
from xpool_platform.search.launch import IndexResult, run_index
from xpool_platform.search.searcher import Searcher

pytestmark = [pytest.mark.ray, pytest.mark.slow]

HALF = 3e-4
"""The most that rounding to float16 changes of a cosine here."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    return tiny_checkpoint(tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture(scope="module")
def session():
    """A Ray for the jobs that run in this process, which change its folder."""
    folder = Path.cwd()
    with ray_session():
        yield
    os.chdir(folder)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder of videos of two shapes, one of them below another folder."""
    made = tmp_path / "a corpus"
    (made / "below").mkdir(parents=True)
    write_video(made / "wide.mp4", 40, size=(160, 96))
    write_video(made / "high one.mp4", 33, size=(96, 160))
    write_video(made / "below" / "short é.mp4", 5)
    return made


def run(index: Path, checkpoint: str = "", **options) -> tuple[IndexResult, str]:
    """The job in this process, and what it prints."""
    output_dir = index.parent / "outputs"
    config = index_defaults(checkpoint, output_dir, has_videos="videos" in options)
    printed = io.StringIO()
    told = {"out": str(index), "checkpoint": checkpoint, "output_dir": str(output_dir)}
    options = {k: str(v) if isinstance(v, Path) else v for k, v in options.items()}
    return run_index(replace(config, **told, **options), Console(printed)), printed.getvalue()


def scores_in(index: Path) -> dict[str, np.ndarray]:
    """Of TEXTS with each video of an index."""
    searcher = Searcher(index, num_threads=1)
    found = searcher.search(searcher.encode(TEXTS), 100, "exhaustive")
    scores: dict[str, np.ndarray] = {}
    for text, videos in enumerate(found):
        assert [video.score for video in videos] == sorted((v.score for v in videos), reverse=True)
        for video in videos:
            scores.setdefault(video.video_id, np.full(len(TEXTS), np.nan))[text] = video.score
    return scores


def assert_scores(index: Path, checkpoint: str, videos: dict[str, Path], store: Path) -> None:
    """That an index has these videos alone, with the scores of an evaluation."""
    expected = scores_of(checkpoint, [str(path) for path in videos.values()], store)
    found = scores_in(index)
    assert sorted(found) == sorted(videos)
    for column, video_id in enumerate(videos):
        np.testing.assert_allclose(found[video_id], expected[:, column], atol=HALF)
    assert np.ptp(expected, axis=1).max() > 5 * HALF  # scores that are all alike would show nothing


def test_a_folder_becomes_an_index_with_the_scores_of_an_evaluation(checkpoint, folder, tmp_path):
    (folder / "damaged.mp4").write_bytes(b"no video" * 100)
    index = tmp_path / "the index"
    options = ("--videos", str(folder), "--out", str(index), "--output-dir", str(tmp_path / "out"))
    done = finish(start_job("--checkpoint", checkpoint, *options, script="jobs/index.py"))
    assert done.status == 0, done.err
    assert done.err == ""
    assert "left out 1 of 4 videos:" in done.out
    assert f"all that was left out: {index / 'errors.parquet'}" in done.out
    assert f"{index}: 3 videos, version 1 (3 added, 0 taken out)" in done.out
    (bad,) = pq.read_table(index / "errors.parquet").to_pylist()
    assert bad["video_id"] == "damaged.mp4"
    paths = {str(p.relative_to(folder)): p for p in folder.rglob("*.mp4") if p.stem != "damaged"}
    assert_scores(index, checkpoint, paths, tmp_path / "frames")


def test_a_file_without_a_byte_is_refused_before_ray_starts(checkpoint, folder, tmp_path):
    (folder / "empty.mp4").touch()
    with pytest.raises(UserError, match=r"empty\.mp4 is empty, it has 0 bytes"):
        run(tmp_path / "index", checkpoint, videos=folder)
    assert not (tmp_path / "index" / INDEX).exists()


@pytest.mark.usefixtures("session")
def test_only_what_is_new_or_changed_is_encoded(checkpoint, folder, tmp_path):
    index = tmp_path / "index"
    first, _ = run(index, checkpoint, videos=folder, videos_per_segment=2)
    assert (first.num_added, first.version.version, len(first.version.segments)) == (3, 1, 2)
    content = (index / INDEX).read_bytes()

    again, out = run(index, videos=folder)
    assert (again.num_added, again.num_removed) == (0, 0)
    assert "encoding" not in out
    assert (index / INDEX).read_bytes() == content

    write_video(folder / "wide.mp4", 21, size=(128, 96))
    write_video(folder / "new.mp4", 30, size=(64, 64))
    (folder / "below" / "short é.mp4").unlink()
    changed, out = run(index, videos=folder)
    assert (changed.num_added, changed.num_removed) == (2, 1)
    assert re.findall(r"^encoding: (\S+), videos$", out, re.MULTILINE)[-1] == "2/2"
    assert sorted(scores_in(index)) == ["below/short é.mp4", "high one.mp4", "new.mp4", "wide.mp4"]

    missing, out = run(index, videos=folder, remove_missing=True)
    assert (missing.num_added, missing.num_removed) == (0, 1)
    assert "encoding" not in out
    videos = {path.name: path for path in folder.glob("*.mp4")}
    assert_scores(index, checkpoint, videos, tmp_path / "frames")
    named = {segment.name for segment in missing.version.segments}
    assert {path.name for path in (index / SEGMENTS).iterdir()} == named


def test_videos_are_taken_out_by_id_and_their_room_is_given_back(checkpoint, folder, tmp_path):
    index = tmp_path / "index"
    videos = {path.name: path for path in sorted(folder.rglob("*.mp4"))}
    add_to_index(index, checkpoint, videos, captions={"wide.mp4": ["a", "b"]})
    before = scores_in(index)
    content = (index / INDEX).read_bytes()
    with pytest.raises(UserError, match="no video 'no such'; nothing was changed"):
        run(index, remove=("wide.mp4", "no such"))
    assert (index / INDEX).read_bytes() == content

    removed, _ = run(index, remove=("high one.mp4",))
    assert (removed.num_removed, removed.version.version) == (1, 2)
    assert sorted(scores_in(index)) == ["short é.mp4", "wide.mp4"]

    def size() -> int:
        return sum(path.stat().st_size for path in (index / SEGMENTS).rglob("*.arrow"))

    larger = size()
    compact, _ = run(index, compact=True)
    assert [segment.removed for segment in compact.version.segments] == [[]]
    assert size() < larger
    after = scores_in(index)
    assert {video_id: s.tolist() for video_id, s in after.items()} == {
        video_id: before[video_id].tolist() for video_id in ("short é.mp4", "wide.mp4")
    }
    searcher = Searcher(index, num_threads=1)
    _, terms = searcher.by_itself("wide.mp4")
    assert {found.caption for found in searcher.captions_for(terms, 5)} == {"a", "b"}
    assert searcher.thumbnail("wide.mp4", 0).startswith(b"\xff\xd8")

    _, out = run(index, check=True)
    assert f"MiB of {index} are as they were written" in out
    (terms_file,) = index.rglob("terms.arrow")
    flipped = bytearray(terms_file.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    terms_file.write_bytes(flipped)
    with pytest.raises(UserError, match=r"terms\.arrow is not what was written"):
        run(index, check=True)


def test_a_model_that_a_killed_job_left_half_written_is_written_again(checkpoint, folder, tmp_path):
    videos = {"wide": folder / "wide.mp4"}
    version = add_to_index(tmp_path / "first", checkpoint, videos)
    left = tmp_path / "second" / "models" / version.model
    left.mkdir(parents=True)
    (left / "config.json").write_bytes(b"{")
    add_to_index(tmp_path / "second", checkpoint, videos)
    assert scores_in(tmp_path / "second").keys() == {"wide"}


def test_another_model_is_refused_with_both_names(checkpoint, folder, tmp_path):
    index = tmp_path / "index"
    add_to_index(index, checkpoint, {"wide": folder / "wide.mp4"})
    config = replace(shapes(), model=replace(shapes().model, pooling="mean"))
    other = tiny_checkpoint(tmp_path / "other", config)
    with pytest.raises(UserError, match="is not the model that") as refused:
        run(index, other, videos=folder)
    assert other in str(refused.value)
    assert checkpoint in str(refused.value)


@pytest.mark.usefixtures("session")
def test_captions_manifests_and_frame_stores_are_indexed(checkpoint, folder, tmp_path):
    lines = ["video,caption", "wide.mp4,a wide one", "high one.mp4,höher", "wide.mp4,another"]
    (folder / "captions.csv").write_text("\n".join(lines))
    captioned = tmp_path / "captioned"
    result, _ = run(captioned, checkpoint, videos=folder)
    assert sum(segment.num_captions for segment in result.version.segments) == 3
    searcher = Searcher(captioned, num_threads=1)
    by_captions = {
        tuple(record["captions"]): record["video_id"]
        for segment in searcher.index.segments
        for record in segment.videos.to_pylist()
    }
    assert set(by_captions) == {("a wide one", "another"), ("höher",)}
    mean, terms = searcher.by_itself(by_captions["höher",])
    best = searcher.captions_for(terms, 10)
    texts = searcher.encode([found.caption for found in best])
    for found, text in zip(best, texts, strict=True):
        attention = searcher.attention(text, found.caption, by_captions["höher",])
        assert found.score == pytest.approx(attention.score, abs=HALF)
    (similar,) = searcher.similar(mean, 10, without=by_captions["höher",])
    assert similar.captions == ["a wide one", "another"]

    manifest = tmp_path / "manifest.parquet"
    rows = [{"video_id": "of a manifest", "uri": "a corpus/wide.mp4", "captions": ["a wide one"]}]
    pq.write_table(pa.Table.from_pylist(rows), manifest)
    of_manifest = tmp_path / "of manifest"
    run(of_manifest, checkpoint, videos=manifest)
    ours = scores_in(of_manifest)["of a manifest"]
    wide = by_captions["a wide one", "another"]
    np.testing.assert_allclose(ours, scores_in(captioned)[wide], atol=HALF)

    (store,) = {path.parents[1] for path in (tmp_path / "outputs").rglob("*/??/*.parquet")}
    of_store = tmp_path / "of store"
    result, out = run(of_store, checkpoint, videos=store)
    assert result.version.num_videos == 2
    assert "decoding" not in out
    found = sorted(scores.tolist() for scores in scores_in(of_store).values())
    np.testing.assert_allclose(found, sorted(s.tolist() for s in scores_in(captioned).values()))
    assert Searcher(of_store, num_threads=1).search(texts, 2, "auto")[0][0].video is None


def killed_at(process, moment: Callable[[], bool], after_s: float, marker: str) -> bool:
    """Kill a job and all that it started, so long after a moment; whether it was still there."""
    until = time.monotonic() + 120
    while not moment() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(after_s)
    was_there = process.poll() is None
    while alive := processes_of(marker):
        for each in alive:
            each.kill()
        time.sleep(0.2)
    finish(process)
    return was_there


def segments_in(index: Path) -> dict[str, int]:
    """The segments that are finished, and which files those are."""
    found = index.glob(f"{SEGMENTS}/*/segment.json")
    return {p.parent.name: p.stat().st_ino for p in found if not p.parent.name.endswith(".part")}


def moments(index: Path, draw: random.Random) -> list[Callable[[], bool]]:
    """From the start of an index to its end, in a random order of the middle ones."""
    at_segments = [lambda n=n: len(segments_in(index)) >= n for n in (1, 2)]
    draw.shuffle(at_segments)
    return [(index / "models").exists, *at_segments]


@pytest.mark.long
def test_a_new_index_that_is_killed_is_not_there_and_its_segments_are_used(checkpoint, tmp_path):
    draw = random.Random(5)
    videos = some_videos(tmp_path / "videos", ["0.mp4", "1.mp4", "2.mp4", "3.mp4"])
    index, marker = tmp_path / "index", uuid.uuid4().hex
    options = ("--checkpoint", checkpoint, "--videos", str(tmp_path / "videos"))
    options += ("--out", str(index), "--output-dir", str(tmp_path / "outputs"))

    def job():
        each = ("--videos-per-segment", "1", "--data.decode-cpus", "1")
        return start_job(*options, *each, script="jobs/index.py", TEST_MARKER=marker)

    for moment in moments(index, draw):
        assert killed_at(job(), moment, draw.uniform(0, 0.3), marker)
        with pytest.raises(UserError, match="holds no index; make one"):
            search_by_text(SearchConfig(index=str(index)), ["a sentence"])
    finished = segments_in(index)
    assert finished
    done = finish(job())
    assert done.status == 0, done.err
    assert "4 videos, version 1 (4 added" in done.out
    after = segments_in(index)
    assert finished.items() <= after.items()
    assert len(after) == 4
    assert check_hashes(index, read_version(index))
    assert not list(index.rglob("*.part"))
    assert_scores(index, checkpoint, videos, tmp_path / "frames of an evaluation")


@pytest.mark.long
def test_an_update_that_is_killed_leaves_the_former_index(checkpoint, tmp_path):
    draw = random.Random(6)
    former = some_videos(tmp_path / "former", ["a.mp4", "b.mp4"], seconds=2)
    videos = some_videos(tmp_path / "videos", ["0.mp4", "1.mp4", "2.mp4"])
    index, marker = tmp_path / "index", uuid.uuid4().hex
    add_to_index(index, checkpoint, former)
    content, answers = (index / INDEX).read_bytes(), scores_in(index)
    options = ("--videos", str(tmp_path / "videos"), "--out", str(index))
    options += ("--videos-per-segment", "1", "--output-dir", str(tmp_path / "outputs"))

    def job():
        return start_job(*options, script="jobs/index.py", TEST_MARKER=marker)

    count = draw.choice([2, 3])  # of which one is the former index's
    assert killed_at(job(), lambda: len(segments_in(index)) >= count, draw.uniform(0, 0.2), marker)
    assert (index / INDEX).read_bytes() == content
    np.testing.assert_equal(scores_in(index), answers)
    finished = segments_in(index)
    done = finish(job())
    assert done.status == 0, done.err
    assert finished.items() <= segments_in(index).items()
    assert_scores(index, checkpoint, {**former, **videos}, tmp_path / "frames of an evaluation")
