"""What one does on MLflow's pages, and what is read off them."""

from collections.abc import Collection

from browser import Screen
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

CHART = "[data-testid=experiment-view-compare-runs-card]"


def open_run(screen: Screen, experiment_id: str, name: str) -> None:
    """Click a run in the table."""
    screen.open(f"#/experiments/{experiment_id}/runs")
    screen.find("a", name).click()
    screen.find("h1, h2", name)


def open_artifact(screen: Screen, name: str) -> None:
    """Of the run that is open, from the root of its artifacts."""
    screen.find("[role=tab]", "Artifacts").click()
    screen.find("[data-testid=artifact-tree-node]", name).click()


def compare_all(screen: Screen, experiment_id: str) -> None:
    """Choose every run of the table and compare them."""
    screen.open(f"#/experiments/{experiment_id}/runs")
    box = "input[aria-label='Select all runs']"
    screen.wait(lambda: screen.driver.find_elements(By.CSS_SELECTOR, box), "the runs' boxes")
    screen.find("[role=row] a")
    screen.driver.find_element(By.CSS_SELECTOR, box).click()
    screen.find("[data-testid=runs-compare-button]").click()
    screen.see("Comparing")


def search(screen: Screen, where: str, words: str) -> None:
    screen.find(f"input[placeholder='{where}']").send_keys(words)


def cell(screen: Screen, name: str) -> WebElement:
    """Beside a name in a table of two columns."""
    first = f"*[@role='cell'][1][normalize-space()='{name}']"
    path = f"//*[@role='row'][{first}]/*[@role='cell'][2]"
    return screen.wait(lambda: screen.driver.find_elements(By.XPATH, path), name)[0]


def numbers_in_row(screen: Screen, run_name: str) -> set[float]:
    """In the table of runs, whose names and values lie in two parts with rows of one number."""
    parts = f"//*[@row-id][.//a[normalize-space()='{run_name}']]"
    row = screen.driver.find_element(By.XPATH, parts).get_attribute("row-id")
    numbers = set()
    for text in screen.texts(f"[row-id='{row}'] [role=gridcell]"):
        if text.replace(".", "", 1).isdigit():
            numbers.add(float(text))
    return numbers


def is_shown(screen: Screen, figure: str) -> bool:
    return screen.driver.execute_script(
        "const image = document.querySelector(`img[alt='${arguments[0]}']`);"
        "return Boolean(image && image.complete && image.naturalWidth > 0)",
        figure,
    )


def is_in_sight(screen: Screen, heading: str) -> bool:
    """Whether it is within the window's width, which `is_displayed` does not ask."""
    right = "return arguments[0].getBoundingClientRect().right <= window.innerWidth"
    return screen.driver.execute_script(right, screen.find("h1, h2, h3, h4", heading))


def drawn(screen: Screen, title: str) -> list[float]:
    """The values of the curve of this chart, once it has any."""
    script = f"""
        const charts = [...document.querySelectorAll("{CHART}")];
        const chart = charts.find(c => c.querySelector("h4").textContent == arguments[0]);
        return [...chart?.querySelector(".js-plotly-plot")?.data?.[0]?.y ?? []];
    """
    return screen.wait(lambda: screen.driver.execute_script(script, title), f"chart {title}")


def params_row(screen: Screen, name: str) -> list[str]:
    """Of the compare view's table of parameters."""
    path = f"//table//tr[th[normalize-space()='{name}']]/td"
    return [each.text.strip() for each in screen.driver.find_elements(By.XPATH, path)]


def metric_row(screen: Screen, name: str) -> list[float]:
    """Of the compare view's table of metrics, of which only the rows in sight are on the page."""
    script = """
        const [names, values] = document.querySelectorAll(".ReactVirtualized__Grid");
        const link = [...names.querySelectorAll("a")].find(a => a.textContent == arguments[0]);
        if (!link) { values.scrollTop += 200; return []; }
        const inRow = span => span.parentElement.style.top == link.parentElement.style.top;
        return [...values.querySelectorAll("span")].filter(inRow).map(span => span.textContent);
    """
    row = screen.wait(lambda: screen.driver.execute_script(script, name), f"metric {name}")
    return [float(text) for text in row]


def draw_against(screen: Screen, fields: Collection[str], metric: str) -> None:
    """Parallel coordinates of these fields alone, out of all that differ, and of this metric."""

    def axes() -> list[str]:
        return screen.texts(".parcoords .axis-title")

    lists = "input[role=combobox]"
    screen.wait(axes, "parallel coordinates")
    of_fields, of_metrics = screen.driver.find_elements(By.CSS_SELECTOR, lists)[:2]
    while (before := axes())[-2] not in fields:
        of_fields.send_keys(Keys.BACKSPACE)
        screen.wait(lambda old=before: axes() != old, "one axis less")
    of_metrics.send_keys(Keys.BACKSPACE, metric)
    screen.find(f"[title='{metric}']").click()
    screen.find("h1, h2").click()  # closes the list
    screen.wait(lambda: axes()[-1:] == [metric], metric)
    assert axes() == [*fields, metric]
