"""Pages in a real browser: what somebody at a screen sees, clicks and keeps a picture of."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

BROWSER, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")

needs_browser = pytest.mark.skipif(
    not (BROWSER.is_file() and DRIVER.is_file()),
    reason="no browser: `apt-get install chromium chromium-driver` puts one where it is looked for",
)

OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--disable-quic", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run", "--hide-scrollbars"),
)
WAIT_S = 60
"""A page that takes longer is broken: on a loaded machine they take ten seconds."""

Seen = TypeVar("Seen")


@dataclass(frozen=True, kw_only=True)
class Screen:
    """A window on the pages of one server."""

    driver: Chrome
    address: str
    pictures: Path
    """Where pictures are kept."""

    def open(self, page: str) -> None:
        self.driver.get("about:blank")  # a change behind the # alone would not load the page anew
        self.driver.get(f"{self.address}/{page}")

    def wait(self, condition: Callable[[], Seen], what: str) -> Seen:
        """What a condition gives once it gives something."""
        waiting = WebDriverWait(
            self.driver, WAIT_S, 0.1, ignored_exceptions=[StaleElementReferenceException]
        )
        return waiting.until(lambda _: condition(), f"{what} did not appear")

    def find(self, css: str, text: str | None = None) -> WebElement:
        """The first element that is shown, of those with this text if one is given."""

        def first() -> WebElement | None:
            for element in self.driver.find_elements(By.CSS_SELECTOR, css):
                if element.is_displayed() and text in (None, element.text.strip()):
                    return element
            return None

        return self.wait(first, css if text is None else f"{css} with {text!r}")

    def texts(self, css: str) -> list[str]:
        """Of all elements, those out of sight included."""
        found = self.driver.find_elements(By.CSS_SELECTOR, css)
        return [(element.get_attribute("textContent") or "").strip() for element in found]

    def see(self, *texts: str) -> None:
        """Wait until all these texts are on the page."""

        def missing() -> list[str]:
            page = self.driver.find_element(By.TAG_NAME, "body").text
            return [text for text in texts if text not in page]

        self.wait(lambda: not missing(), f"one of {texts}")

    @contextmanager
    def within(self, css: str) -> Iterator[None]:
        """Look at the page in this frame instead."""
        self.driver.switch_to.frame(self.find(css))
        try:
            yield
        finally:
            self.driver.switch_to.default_content()

    def keep(self, name: str) -> Path:
        """A picture of what is shown."""
        path = self.pictures / f"{name}.png"
        path.write_bytes(self.driver.get_screenshot_as_png())
        return path

    def complaints(self) -> list[str]:
        """Errors that the pages have put on the browser's console since the last call."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] == "SEVERE"
        ]


@contextmanager
def browser(
    address: str, folder: Path, *, size: tuple[int, int], remembered: dict[str, str]
) -> Iterator[Screen]:
    """A fresh browser that remembers of former visits what is given as its local storage.

    Pictures go to the folder that XPOOL_SCREENSHOTS names, else below `folder`.
    """
    pictures = Path(os.environ.get("XPOOL_SCREENSHOTS") or folder / "screenshots").absolute()
    pictures.mkdir(parents=True, exist_ok=True)
    options = ChromeOptions()
    options.binary_location = str(BROWSER)
    for option in (*OPTIONS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=Service(str(DRIVER)))
    try:
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        source = f"""
            if (location.protocol.startsWith("http"))
                for (const [key, value] of Object.entries({json.dumps(remembered)}))
                    localStorage.setItem(key, value);
        """
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": source})
        yield Screen(driver=driver, address=address, pictures=pictures)
    finally:
        driver.quit()
