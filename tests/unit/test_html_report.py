"""The page that is mailed: all of it in one file, and harmless whatever a caption says."""

import base64
import os
import re
import subprocess
import sys
import zipfile
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from ray._private.runtime_env.packaging import create_package

import xpool
import xpool_platform
from xpool.metrics import METRICS, retrieval_ranks
from xpool_platform.evaluate.failures import failures_table
from xpool_platform.report import RetrievalReport
from xpool_platform.tracking.figures.notes import NOTES
from xpool_platform.tracking.html_report import html_report

EVIL = "<script>alert(1)</script>"
PNG = b"\x89PNG not really"
KEYS = [f"{direction}/{metric}" for direction in ("t2v", "v2t") for metric in METRICS]


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, page: str):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.text += " "

    def handle_endtag(self, tag):  # noqa: ARG002
        self.text += " "

    def handle_data(self, data):
        self.text += data

    def words(self) -> str:
        return " ".join(self.text.split())


def report(**changes) -> RetrievalReport:
    numbers = {key: 10.0 + i for i, key in enumerate(KEYS)}
    processed = {f"dual_softmax/{key}": value + 20 for key, value in numbers.items()}
    processed |= {f"qb_norm/{key}": numbers[key] + 40 for key in KEYS if key.startswith("t2v")}
    fields = {
        "split": "test",
        "num_videos": 1234,
        "num_captions": 5678,
        "metrics": numbers,
        "intervals": {key: (value - 0.5, value + 0.5) for key, value in numbers.items()},
        "chance": {key: value / 100 for key, value in numbers.items()},
        "processed_metrics": processed,
        "processed_intervals": {key: (v - 0.25, v + 0.25) for key, v in processed.items()},
        "selected_on": "val",
    }
    return RetrievalReport(**(fields | changes))


def failures(captions):
    count = len(captions)
    scores = -np.eye(count)
    ids = [f"v{i}" for i in range(count)]
    return failures_table(retrieval_ranks(scores, np.arange(count)), scores, ids, captions)


def page_of(**changes) -> str:
    fields = {
        "name": "my-run",
        "experiment": "shapes",
        "when": datetime(2026, 3, 4, 5, 6),
        "command": "jobs/train.py shapes",
        "git_commit": "0123abc",
        "git_clean": False,
        "report": report(),
        "data": [{"split": "test", "num_videos": 1234, "num_captions": 5678, "hours": 2.5}],
        "missing": [],
        "figures": {"attention": PNG, "recall": PNG + b"2"},
        "failures": failures([f"caption {i}" for i in range(40)]),
        "config": {"train.seed": 7, "name": "shapes"},
    }
    return html_report(**(fields | changes))


def test_the_page_tells_what_was_run_and_what_was_found():
    text = Page(page_of()).words()
    for wanted in ("my-run", "shapes", "2026-03-04 05:06", "jobs/train.py shapes", "0123abc"):
        assert wanted in text
    assert "with changes that are not committed" in text
    assert "5,678 captions of 1,234 videos" in text
    assert "selected by t2v R@1 on val" in text
    assert "text to video 10.0 9.5–10.5 11.0" in text
    assert "dual softmax 30.0 29.8–30.2" in text
    assert "QB-Norm 50.0" in text
    assert "chance 0.1" in text
    assert "train.seed 7" in text
    assert "2.50" in text
    assert "Every video could be decoded" in text


def test_rows_of_both_directions_hold_each_metric_once():
    rows = re.findall(r"<tr[^>]*><th scope=\"row\">(.*?)</th>(.*?)</tr>", page_of(), re.DOTALL)
    names = ["text to video", "dual softmax", "QB-Norm", "chance"]
    names += ["video to text", "dual softmax", "chance"]
    assert [name for name, _ in rows] == names
    first = re.findall(r"<td>([\d.]+)", rows[4][1])
    assert [float(value) for value in first] == [16.0, 17.0, 18.0, 19.0, 20.0, 21.0]


def test_a_checkpoint_chosen_on_the_reported_split_is_said_to_flatter():
    assert "flatter" in page_of(report=report(selected_on="test"))
    assert "flatter" not in page_of()
    assert "is not known" in page_of(report=report(selected_on=""))


def test_markup_in_whatever_comes_from_elsewhere_is_text():
    bad = {"video_id": EVIL, "uri": EVIL, "split": EVIL, "kind": EVIL, "reason": EVIL}
    page = page_of(
        name=EVIL,
        command=f"jobs/train.py --run-name '{EVIL}'",
        missing=[bad],
        failures=failures([EVIL] * 12),
        config={EVIL: EVIL},
        figures={f'"{EVIL}': PNG},
    )
    parsed = Page(page)
    assert "script" not in {tag for tag, _ in parsed.tags}
    assert parsed.text.count(EVIL) >= 12
    (image,) = (attributes for tag, attributes in parsed.tags if tag == "img")
    assert image["alt"] == f'"{EVIL}'


def test_nothing_is_asked_from_another_address():
    page = page_of()
    tags = Page(page).tags
    assert not re.search(r"https?:|//", re.sub(r"base64,[\w+/=]+", "", page))
    assert "script" not in {tag for tag, _ in tags}
    images = [attributes["src"] for tag, attributes in tags if tag == "img"]
    prefix = "data:image/png;base64,"
    assert all(src.startswith(prefix) for src in images)
    assert [base64.b64decode(src[len(prefix) :]) for src in images] == [PNG, PNG + b"2"]


def test_figures_are_told_how_to_be_read():
    text = Page(page_of()).words()
    assert NOTES["attention"] in text
    assert NOTES["ranks"] not in text


def test_the_worst_thirty_failures_are_listed():
    page = page_of()
    assert page.count("<ol>") == 30
    assert "80 queries have their truth past the tenth place; the worst 30 of them" in page
    assert "Every query has its truth" in page_of(failures=failures(["a"] * 3))
    assert "Failures" not in page_of(failures=None)


def test_missing_videos_are_counted_and_named():
    rows = [
        {"video_id": f"v{i}", "uri": "u", "split": "test", "kind": "k", "reason": "broken"}
        for i in range(300)
    ]
    page = page_of(missing=rows, report=report(num_missing=300))
    assert "not in these figures: 300" in page
    assert "could not be decoded: 300" in page
    assert page.count("<td>broken</td>") == 200
    assert "The first 200 of 300" in page


@pytest.mark.parametrize("clean", [True, None])
def test_what_git_does_not_tell_is_not_said(clean):
    text = Page(page_of(git_clean=clean)).words()
    assert "not committed" not in text
    assert ("0123abc , clean" in text) is (clean is True)
    assert "Commit not known" in Page(page_of(git_commit="")).words()


def test_the_template_travels_with_the_package_to_ray_workers(tmp_path):
    sent, received = tmp_path / "sent.zip", tmp_path / "received"
    create_package(
        str(Path(xpool_platform.__file__).parent),
        sent,
        include_gitignore=True,
        include_parent_dir=True,
    )
    with zipfile.ZipFile(sent) as archive:
        archive.extractall(received)
    code = (
        "import xpool_platform.tracking.html_report as page;"
        "print(page.__file__, 'Results on' in page.template_source())"
    )
    paths = [str(received), str(Path(xpool.__file__).parents[1])]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": os.pathsep.join(paths)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    path, is_whole = done.stdout.split()
    assert Path(path).is_relative_to(received), done.stderr
    assert is_whole == "True"
