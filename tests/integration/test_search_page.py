"""The page of the search, in a real browser, against the real service."""

from collections.abc import Iterator

import pytest
from browser import Screen, browser, needs_browser
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from served_search import served_search
from tiny_index import add_to_index, some_videos
from tiny_model import tiny_checkpoint

pytestmark = [pytest.mark.ray, pytest.mark.slow, needs_browser]

HOSTILE = "<img src=x onerror=document.title='hacked'>"
IDS = ("a b/ü?#%.mp4", HOSTILE, "third.mp4", "fourth.mp4")
CAPTIONS = {"third.mp4": [HOSTILE, "a red circle"]}
DESK, PHONE = (1100, 900), (360, 740)


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("page")
    videos = some_videos(folder / "videos", IDS, seconds=3)
    checkpoint = tiny_checkpoint(folder / "run")
    add_to_index(folder / "index", checkpoint, videos, captions=CAPTIONS)
    with served_search(folder / "index", "--max-query-length", "60") as served:
        yield served.address.rstrip("/")


@pytest.fixture
def screen(address, tmp_path, request) -> Iterator[Screen]:
    with browser(address, tmp_path, size=request.param, remembered={}) as opened:
        yield opened
        assert opened.complaints() == []


def shown(screen: Screen, css: str) -> bool:
    return any(e.is_displayed() for e in screen.driver.find_elements(By.CSS_SELECTOR, css))


def press(screen: Screen, key: str) -> None:
    ActionChains(screen.driver).send_keys(key).perform()


def search(screen: Screen, sentence: str) -> None:
    box = screen.find("form#search input#query")
    box.clear()
    box.send_keys(sentence, Keys.ENTER)
    screen.wait(
        lambda: shown(screen, "#results .card") and not shown(screen, "#loading"), "the cards"
    )


def focused(screen: Screen) -> str | None:
    return screen.driver.execute_script("return document.activeElement.dataset.videoId")


def is_wide(screen: Screen) -> bool:
    """Whether the page has to be moved sideways."""
    return screen.driver.execute_script(
        "const page = document.documentElement; return page.scrollWidth > page.clientWidth"
    )


@pytest.mark.parametrize("screen", [DESK], indirect=True)
def test_somebody_finds_plays_and_compares(screen):
    screen.open("")
    screen.find("#empty")
    screen.see("This index holds 4 videos.")
    search(screen, "a red circle")
    assert not shown(screen, "#empty")
    cards = screen.driver.find_elements(By.CSS_SELECTOR, "ol#results > li.card")
    assert {card.get_attribute("data-video-id") for card in cards} == set(IDS)
    scores = [float(text) for text in screen.texts(".card .score")]
    assert scores == sorted(scores, reverse=True)
    assert "4 of 4 videos" in screen.find("#status").text
    assert screen.driver.current_url.endswith("/?q=a+red+circle")

    answer = screen.driver.execute_async_script(
        "const done = arguments[0]; fetch('/search?q=a+red+circle').then(r => r.json()).then(done)"
    )
    results = answer["answers"][0]["results"]
    assert [card.get_attribute("data-video-id") for card in cards] == [
        video["video_id"] for video in results
    ]
    for card, video in zip(cards, results, strict=True):
        frames = card.find_elements(By.CSS_SELECTOR, ".strip .frame")
        times = [float(frame.get_attribute("data-time")) for frame in frames]
        assert times == pytest.approx([frame["time_s"] for frame in video["frames"]])
        assert len(card.find_elements(By.CSS_SELECTOR, ".bar")) == len(frames)
        start = f"{video['moments'][0]['start_s']:.1f}"
        assert card.find_element(By.CSS_SELECTOR, ".moment").text.startswith(start)
    assert HOSTILE in screen.texts(".card .video-id")
    assert HOSTILE in screen.texts(".card .captions li")
    assert not screen.driver.find_elements(By.CSS_SELECTOR, "img[src='x'], [onerror]")
    assert "hacked" not in screen.driver.title

    for card, video in zip(cards, results, strict=True):
        card.find_element(By.CSS_SELECTOR, "button.play").click()
        start = video["moments"][0]["start_s"]

        def position(card=card) -> float:
            return screen.driver.execute_script(
                "const video = arguments[0].querySelector('video.player');"
                "return video && video.readyState > 1 ? video.currentTime : -1",
                card,
            )

        screen.wait(lambda start=start, at=position: at() >= start - 0.05, "the moment")
        screen.wait(lambda start=start, at=position: at() > start + 0.02, "playing")
    playing = "return [...document.querySelectorAll('video.player')].filter(v => !v.paused).length"
    assert screen.driver.execute_script(playing) <= 1  # a video that starts stops the others

    first = cards[0]
    first.find_element(By.CSS_SELECTOR, "button.compare").click()
    box = first.find_element(By.CSS_SELECTOR, "form.compare-form input")
    box.send_keys("nothing at all", Keys.ENTER)
    screen.wait(
        lambda: len(first.find_elements(By.CSS_SELECTOR, ".strips .strip")) == 2, "two strips"
    )
    compared = [e.text for e in first.find_elements(By.CSS_SELECTOR, ".strip-query")]
    assert [text.strip('“”"') for text in compared] == ["a red circle", "nothing at all"]
    assert not shown(screen, ".card-error")
    screen.keep("search-compared")


@pytest.mark.parametrize("screen", [PHONE], indirect=True)
def test_keys_errors_and_a_phone(screen):
    screen.open("?q=nothing+at+all")
    screen.wait(lambda: shown(screen, "#results .card"), "the cards")
    assert not is_wide(screen)
    screen.driver.execute_script("document.activeElement.blur()")
    press(screen, "j")
    ids = [
        card.get_attribute("data-video-id")
        for card in screen.driver.find_elements(By.CSS_SELECTOR, "li.card")
    ]
    assert focused(screen) == ids[0]
    press(screen, "j")
    assert focused(screen) == ids[1]
    press(screen, "k")
    assert focused(screen) == ids[0]
    press(screen, Keys.ENTER)
    screen.find("video.player")
    assert focused(screen) == ids[0]
    press(screen, "c")
    screen.find("form.compare-form input")
    press(screen, "j")  # is a letter here
    assert screen.find("form.compare-form input").get_attribute("value") == "j"
    press(screen, Keys.ESCAPE)
    screen.wait(lambda: not shown(screen, "form.compare-form"), "a closed form")
    assert focused(screen) == ids[0]
    press(screen, "/")
    assert screen.driver.switch_to.active_element.get_attribute("id") == "query"
    assert not is_wide(screen)
    screen.keep("search-phone")

    screen.open("?q=" + "a" * 61)
    said = screen.find("#error").text
    assert "at most 60 characters" in said
    assert not shown(screen, "#loading")
    assert any("422" in each for each in screen.complaints())  # the browser's own note
    search(screen, "a red circle")
    assert not shown(screen, "#error")
    screen.driver.back()
    screen.find("#error")
    assert all("422" in each for each in screen.complaints())
    assert not is_wide(screen)
