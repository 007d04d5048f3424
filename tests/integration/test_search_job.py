"""jobs/search.py on a small index."""

import io
import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT, Done, environment
from tiny_index import add_to_index, some_videos
from tiny_model import tiny_checkpoint

from videos import write_video
from xpool_platform.console import Console
from xpool_platform.errors import UserError
from xpool_platform.experiments import shapes
from xpool_platform.search.command import search_by_example, search_by_text
from xpool_platform.search.config import SearchConfig
from xpool_platform.search.index_files import write_version
from xpool_platform.search.searcher import Searcher
from xpool_platform.search.tables import print_search

IDS = ("first.mp4", "-dashed", "[bold]third[/bold]", "fourth.mp4")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    return tiny_checkpoint(tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture(scope="module")
def index(tmp_path_factory, checkpoint) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    captions = {"first.mp4": ["a [red] circle", "höher"], "-dashed": ["no dash"]}
    videos = some_videos(folder / "videos", IDS)
    add_to_index(folder / "index", checkpoint, videos, captions=captions)
    return folder / "index"


def search(*arguments: str, typed: str = "") -> Done:
    """The job as a process, with a standard input."""
    done = subprocess.run(
        [sys.executable, "jobs/search.py", *arguments],
        cwd=ROOT,
        env=environment(COLUMNS="160"),
        input=typed,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "Traceback" not in done.stderr
    return Done(done.returncode, done.stdout, done.stderr, 0.0)


def config(index: Path, **options) -> SearchConfig:
    return SearchConfig(index=str(index), threads=1, **options)


def test_sentences_of_the_command_line_and_of_the_input_are_answered_as_json(index):
    done = search(str(index), "a red circle", "--k", "2", "--json", "-", typed="höher\n\n  x \n")
    assert (done.status, done.err) == (0, "")
    answer = json.loads(done.out)
    assert [each["query"] for each in answer["answers"]] == ["a red circle", "höher", "x"]
    assert answer["num_videos"] == 4
    searcher = Searcher(index, num_threads=1)
    expected = searcher.search(searcher.encode(["a red circle"]), 2, "auto")[0]
    found = answer["answers"][0]["results"]
    assert [video["video_id"] for video in found] == [video.video_id for video in expected]
    assert [v["score"] for v in found] == pytest.approx([v.score for v in expected], abs=1e-5)


def test_a_table_shows_ids_and_captions_as_they_are(index, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    printed = io.StringIO()
    print_search(search_by_text(config(index), ["what is [this]?"]), Console(printed))
    for text in ("what is [this]?", *IDS, "a [red] circle", "4 videos, exhaustive search"):
        assert text in printed.getvalue()


@pytest.mark.parametrize(
    ("arguments", "typed", "reason"),
    [
        ((), "", "index is empty; name one: python jobs/search.py INDEX"),
        (("INDEX",), "", "give one sentence or more, or a video"),
        (("INDEX", "-"), "\n \n", "give one sentence or more, or a video"),
        (("INDEX", "a", "--video", "first.mp4"), "", "give one sentence or more, or a video"),
        (("INDEX", "--k", "0", "--", "-a"), "", "k must be from 1 to 100, not 0"),
        (("INDEX", "a", "--kk", "3"), "", "there is no option --kk"),
        (
            ("INDEX", "a", "--method", "fast"),
            "",
            "Expected one of ('auto', 'exhaustive', 'two-stage')",
        ),
    ],
)
def test_what_it_cannot_do_is_said_in_a_sentence(index, arguments, typed, reason):
    done = search(*(str(index) if each == "INDEX" else each for each in arguments), typed=typed)
    assert done.status == 1
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert reason in done.err


def test_a_place_without_an_index_is_named(index, tmp_path):
    for place in (tmp_path / "no such", tmp_path, index / "index.json"):
        with pytest.raises(UserError, match=r"holds no index|cannot be read") as refused:
            search_by_text(config(place), ["a sentence"])
        assert str(place) in str(refused.value)
    (tmp_path / "index.json").write_text('{"version": 1')
    with pytest.raises(UserError, match=r"index\.json is damaged"):
        search_by_text(config(tmp_path), ["a sentence"])
    with pytest.raises(UserError, match="is an object store"):
        search_by_text(SearchConfig(index="s3://bucket/index"), ["a sentence"])


def test_a_damaged_index_is_an_error_and_no_answer(checkpoint, tmp_path):
    videos = some_videos(tmp_path / "videos", ["a.mp4"])
    add_to_index(tmp_path / "index", checkpoint, videos)
    for name in ("terms.arrow", "videos.arrow", "model.safetensors"):
        (path,) = (tmp_path / "index").rglob(name)
        content = path.read_bytes()
        for damaged in (content[:-8], content[:-8] + b"\xff" * 8):
            path.write_bytes(damaged)
            with pytest.raises(UserError):
                search_by_text(config(tmp_path / "index"), ["a sentence"])
        path.write_bytes(content)
    assert search_by_text(config(tmp_path / "index"), ["a sentence"]).answers


def test_sentences_that_are_none_are_refused(index):
    for sentence in ("a\0b", "half \ud800", ""):
        with pytest.raises(UserError, match="the sentence "):
            search_by_text(config(index), [sentence])


def test_an_index_of_another_checkpoint_is_refused_on_request(index, checkpoint, tmp_path):
    assert search_by_text(config(index, checkpoint=checkpoint), ["a"]).num_videos == 4
    other = replace(shapes(), model=replace(shapes().model, pooling="mean"))
    other_checkpoint = tiny_checkpoint(tmp_path / "other", other)
    with pytest.raises(UserError, match="was not made with checkpoint") as refused:
        search_by_text(config(index, checkpoint=other_checkpoint), ["a"])
    assert other_checkpoint in str(refused.value)
    assert checkpoint in str(refused.value)
    with pytest.raises(UserError, match="no such run"):
        search_by_text(config(index, checkpoint="no such run"), ["a"])


def test_a_video_is_an_example_by_its_id_and_as_a_file(index, tmp_path):
    by_id = search_by_example(config(index, video="first.mp4", k=2))
    assert len(by_id[0].results) == len(by_id[1].results) == 2
    assert "first.mp4" not in [found.video_id for found in by_id[1].results]

    by_file = search_by_example(config(index, video=str(index.parent / "videos" / "0.mp4")))
    best = by_file[1].results[0]
    assert (best.video_id, best.rank) == ("first.mp4", 1)
    assert best.score == pytest.approx(1, abs=1e-3)
    # the frames of an index have been JPEG files
    scores = {found.caption: found.score for found in by_file[0].results}
    for found in by_id[0].results:
        assert found.score == pytest.approx(scores[found.caption], abs=3e-3)

    with pytest.raises(UserError, match="neither in the index nor a file"):
        search_by_example(config(index, video="no such"))
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(b"no video" * 100)
    with pytest.raises(UserError, match="cannot be decoded"):
        search_by_example(config(index, video=str(damaged)))
    with pytest.raises(UserError, match="neither in the index nor a file"):
        search_by_example(config(index, video=str(tmp_path)))


def test_two_stages_find_the_same_where_there_are_few(index, checkpoint, tmp_path):
    with pytest.raises(UserError, match="method two-stage needs a first stage"):
        search_by_text(config(index, method="two-stage"), ["a sentence"])
    videos = {f"{n}.mp4": write_video(tmp_path / f"{n}.mp4", 20 + n) for n in range(5)}
    add_to_index(tmp_path / "index", checkpoint, videos, two_stage_from=1)
    exact, found = (
        search_by_text(config(tmp_path / "index", method=method), ["a sentence", "another"])
        for method in ("exhaustive", "two-stage")
    )
    assert (exact.method, found.method) == ("exhaustive", "two-stage")
    for ours, theirs in zip(found.answers, exact.answers, strict=True):
        assert [v.video_id for v in ours.results] == [v.video_id for v in theirs.results]
        assert [v.score for v in ours.results] == pytest.approx(
            [v.score for v in theirs.results], abs=1e-5
        )


def test_an_id_stays_itself_while_other_versions_take_the_place(checkpoint, tmp_path):
    """The row of a video is another one in each version."""
    videos = some_videos(tmp_path / "videos", ["a.mp4", "b.mp4"])
    folder = tmp_path / "index"
    add_to_index(folder, checkpoint, {"a.mp4": videos["a.mp4"]})
    version = add_to_index(folder, checkpoint, {"b.mp4": videos["b.mp4"]})
    searcher = Searcher(folder, num_threads=1)
    over = threading.Event()

    def change() -> None:
        segments = version.segments
        while not over.is_set():
            segments = segments[::-1]
            write_version(folder, replace(version, segments=segments))
            searcher.refresh()

    changing = threading.Thread(target=change)
    changing.start()
    try:
        for _ in range(3000):
            for video_id, path in videos.items():
                record = searcher.record(video_id)
                assert (record["video_id"], record["uri"]) == (video_id, str(path))
    finally:
        over.set()
        changing.join()
