"""`make train`, `make demo`: a caption finds its video, which plays from what it tells of."""

import csv
import os
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from browser import browser, needs_browser
from conftest import processes_of, start_job, train
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from free_port import free_port

SIZE = (
    ()
    if os.environ.get("XPOOL_WHOLE_RUNS")
    else (
        *("--data.shapes.num-train", "600", "--data.shapes.num-val", "40"),
        *("--data.shapes.num-test", "80", "--train.num-steps", "420", "--train.evals-per-run", "1"),
        *("--eval.num-resamples", "50", "--eval.num-figures", "0"),
    )
)
SCENE_S = 1.0
"""A video of `shapes` shows three scenes of a second each; caption i tells of scene i."""

START_S = 120.0


def captions_of_tests(corpus: Path) -> list[tuple[str, int, str]]:
    """(video, scene, caption) of the test videos."""
    rows: dict[str, list[str]] = {}
    with (corpus / "captions.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["split"] == "test":
                rows.setdefault(row["video"], []).append(row["caption"])
    return [(video, i, text) for video, texts in rows.items() for i, text in enumerate(texts)]


@needs_browser
@pytest.mark.slow
@pytest.mark.ray
def test_a_caption_finds_its_video_and_the_moment_that_it_tells_of(tmp_path):
    outputs = tmp_path / "outputs"
    done = train("shapes", *SIZE, XPOOL_OUTPUT_DIR=str(outputs))
    assert done.status == 0, done.err
    captions = captions_of_tests(next((outputs / "corpora").iterdir()))
    port = free_port()
    job = start_job("--port", str(port), script="jobs/demo.py", XPOOL_OUTPUT_DIR=str(outputs))
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(address, job)
        with browser(address, tmp_path, size=(1200, 900), remembered={}) as screen:
            found, in_scene = 0, 0
            for video, scene, caption in captions[::12]:
                _type(screen, caption)
                card = screen.wait(lambda caption=caption: _cards_of(screen, caption), "the answer")
                ids = [each.get_attribute("data-video-id") for each in card]
                assert len(ids) == 10
                if video in ids:
                    found += 1
                    in_scene += _played_from(screen, card[ids.index(video)]) == scene
            # of 80 videos chance would find an eighth, and play a third from the right scene
            assert found >= 0.8 * len(captions[::12])
            assert in_scene >= 0.7 * found
            _compare(screen, *(text for video, _, text in captions if video == captions[0][0]))
            screen.keep("search")
            assert screen.complaints() == []
    finally:
        job.send_signal(signal.SIGTERM)
        _, said = job.communicate(timeout=120)
    assert "interrupted" in said
    assert processes_of(str(outputs)) == []
    again = start_job("--port", str(port), script="jobs/demo.py", XPOOL_OUTPUT_DIR=str(outputs))
    try:
        _wait_for(address, again)  # the index is there
    finally:
        again.send_signal(signal.SIGTERM)
        out, _ = again.communicate(timeout=120)
    assert "encoding" not in out


def _wait_for(address: str, job) -> None:
    deadline = time.monotonic() + START_S
    while job.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.2)
    job.kill()
    raise AssertionError("\n".join(job.communicate()))


def _type(screen, caption: str) -> None:
    if not screen.driver.current_url.startswith(screen.address):
        screen.open("")
    box = screen.find("#query")
    box.clear()
    box.send_keys(caption, Keys.ENTER)


def _cards_of(screen, caption: str):
    queries = screen.texts("li.card .strip-query")
    cards = screen.driver.find_elements(By.CSS_SELECTOR, "ol#results > li.card")
    return cards if queries and all(caption in query for query in queries) else None


def _compare(screen, caption: str, other: str, *_rest: str) -> None:
    """Two captions of a video side by side over its frames."""
    _type(screen, caption)
    screen.wait(lambda: _cards_of(screen, caption), "the answer")
    screen.find("li.card button.compare").click()
    screen.find("li.card form.compare-form input").send_keys(other, Keys.ENTER)
    screen.wait(lambda: len(screen.texts("li.card:first-child .strip-query")) == 2, "two strips")
    screen.driver.execute_script("scrollTo(0, 0)")


def _played_from(screen, card) -> int:
    """The scene in which a card's player begins."""
    screen.driver.execute_script("arguments[0].scrollIntoView()", card)
    card.find_element(By.CSS_SELECTOR, "button.play").click()
    began = screen.wait(
        lambda: screen.driver.execute_script(
            "const v = arguments[0].querySelector('video.player');"
            "if (!v || v.readyState < 2 || v.seeking) return null;"
            "if (v.began === undefined) { v.began = v.currentTime; }"
            "return v.error ? -1 : v.began + 1e-3;",
            card,
        ),
        "the player",
    )
    return int(began // SCENE_S)
