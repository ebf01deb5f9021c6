"""Open the report's page from disk in a real browser: headless Chromium.

Where Chromium or its driver is not installed these tests are skipped; with ABLATE_BROWSER=required they fail.
"""

import base64
import io
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.resources import files
from itertools import product
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver

from analysis.claims.reading import read_claims
from analysis.records.study import load
from analysis.report import write_report
from tests.analysis.runs import Truth, change, layers_frame, write_known

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
LIMIT = 5_000_000
"""Largest size of a page in bytes."""

MARKUP = "</script><img src=x onerror=alert(1)><b>own</b>"
CLAIMS = f"""
seeds: 10
within: {{scheduler: none}}
claims:
  accuracy:
    statement: "clipping raises the accuracy {MARKUP}"
    quantity: test_accuracy
    scale: points
    treatment: {{clip: fixed}}
    control: {{clip: none}}
    changes: [clip]
    direction: above
    smallest_effect: 1
    why: an example
"""
ACCURACIES = {"none": 0.09, "fixed": 0.84, "delayed": 0.79}  # as text, "9.0" comes after "84.0"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of 60 runs, 6 arms on 10 seeds, with markup in the names of a scheduler and of an error."""
    study = tmp_path_factory.mktemp("outputs") / "sixty & more"
    for seed, clip, scheduler in product(range(10), ACCURACIES, ("none", MARKUP)):
        truth = Truth(accuracy=ACCURACIES[clip] + seed / 200)
        frames = {"layers.parquet": layers_frame(300, seed=seed)}
        options = {"clip": clip, "scheduler": scheduler, "freeze": "none"}
        failed = write_known(study, options, truth, seed=seed, frames=frames)
    change(failed, status="failed", error={"message": f"RuntimeError: {MARKUP}"})
    (study.parent / "mine.yaml").write_text(CLAIMS)
    write_report(load(study), read_claims(study.parent / "mine.yaml"))
    return study / "report"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    browser, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not (browser and driver):
        lacking = "Chromium and chromedriver are not both installed"
        (pytest.fail if os.environ.get("ABLATE_BROWSER") == "required" else pytest.skip)(lacking)
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield window
    window.quit()


@pytest.fixture
def page(chromium: WebDriver, report: Path) -> WebDriver:
    """The page, freshly opened, with its tables ready to sort."""
    return opened(chromium, report / "index.html")


def opened(chromium: WebDriver, path: Path) -> WebDriver:
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    for log in ("browser", "performance"):
        chromium.get_log(log)  # empties the log
    chromium.get(path.as_uri())
    until(lambda: chromium.execute_script("return document.documentElement.dataset.tables") == "ready")
    return chromium


def until(holds, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not true after {seconds} s"
        time.sleep(0.05)


def requested(page: WebDriver) -> list[str]:
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]


def summary(page: WebDriver) -> list[list[str]]:
    """The rows of the first table that are shown."""
    rows = page.find_elements(By.CSS_SELECTOR, "#table-0 tbody tr")
    return [[cell.text for cell in row.find_elements(By.CSS_SELECTOR, "th, td")] for row in rows if row.is_displayed()]


def accuracies(page: WebDriver) -> list[float]:
    return [float(row[2].partition(" ")[0]) for row in summary(page)]


# --- Opening it ---


@pytest.mark.slow
def test_it_opens_from_disk_without_an_error_or_a_request(page: WebDriver) -> None:
    urls = requested(page)
    assert page.get_log("browser") == []
    assert urls[0].startswith("file:") and urls[0].endswith("index.html")
    assert {url.partition(":")[0] for url in urls[1:]} <= {"data", "blob"}


def test_an_error_and_a_request_would_be_seen(chromium: WebDriver, report: Path, tmp_path: Path) -> None:
    html = (report / "index.html").read_text()
    faulty = tmp_path / "faulty.html"
    faulty.write_text(html.replace("<main>", "<main><script>1</script><img src='figures/none.png'>"))
    opened(chromium, faulty)
    assert len(chromium.get_log("browser")) >= 2  # the policy stops both
    faulty.write_text(html.replace("img-src data:", "img-src *").replace("<main>", "<main><img src='none.png'>"))
    opened(chromium, faulty)
    assert any(url.endswith("none.png") for url in requested(chromium))


def test_its_size(report: Path) -> None:
    size = (report / "index.html").stat().st_size
    assert 500_000 < size < LIMIT
    assert len(list((report / "figures").glob("*.svg"))) >= 12


def test_all_figures_are_shown(page: WebDriver) -> None:
    widths = page.execute_script("return [...document.images].map((image) => image.complete && image.naturalWidth)")
    assert len(widths) >= 12 and all(width > 100 for width in widths)


def blank_boxes(page: WebDriver, selector: str) -> list[int]:
    """Which of these elements are of one colour in a screenshot of the whole page, taken without scrolling."""
    size = page.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 0.5}
    shot = page.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})["data"]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(shot))).convert("L"), dtype=float)
    boxes = page.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map((e) => e.getBoundingClientRect().toJSON())", selector
    )
    ends = [[int(box[side] / 2) for side in ("top", "bottom", "left", "right")] for box in boxes]
    assert ends and all(bottom <= len(pixels) for _, bottom, _, _ in ends)
    return [i for i, (top, bottom, left, right) in enumerate(ends) if pixels[top:bottom, left:right].std() < 1]


def test_no_figure_is_blank_in_a_screenshot_without_scrolling(page: WebDriver) -> None:
    assert blank_boxes(page, "figure img") == [] and blank_boxes(page, ".picture") == []
    page.execute_script("document.querySelectorAll('figure img')[1].style.opacity = 0")
    assert blank_boxes(page, "figure img") == [1]


def test_every_link_leads_somewhere(page: WebDriver, report: Path) -> None:
    class Links(HTMLParser):
        def handle_starttag(self, tag, attributes):
            hrefs.extend(value for name, value in attributes if tag == "a" and name == "href")

    hrefs: list[str] = []
    Links().feed((report / "index.html").read_text())
    paths = {unquote(href) for href in hrefs if not href.startswith("#")}
    assert len(paths) > 50
    assert [path for path in paths if not (report / path).is_file()] == []
    inside = {href[1:] for href in hrefs if href.startswith("#")}
    assert all(page.find_elements(By.ID, name) for name in inside)


def test_markup_in_names_stays_text(page: WebDriver) -> None:
    text = page.find_element(By.TAG_NAME, "body").text
    assert f"clipping raises the accuracy {MARKUP}" in text
    assert f"RuntimeError: {MARKUP}" in text
    assert MARKUP in page.find_element(By.CSS_SELECTOR, ".key").get_attribute("textContent")  # the key of arms' names
    assert page.find_elements(By.CSS_SELECTOR, "img[onerror], main b") == []
    assert page.find_elements(By.TAG_NAME, "script")[2:] == []


# --- Tables ---


def test_a_click_on_a_head_sorts_by_number(page: WebDriver) -> None:
    before = accuracies(page)
    head = page.find_elements(By.CSS_SELECTOR, "#table-0 thead th")[2]
    assert before != sorted(before)
    head.click()  # DataTables sorts in a timeout after the click
    until(lambda: accuracies(page) == sorted(before))
    assert head.get_attribute("aria-sort") == "ascending"
    head.click()
    until(lambda: accuracies(page) == sorted(before, reverse=True))


def test_the_keyboard_sorts_too(page: WebDriver) -> None:
    before = accuracies(page)
    for _ in range(200):
        page.switch_to.active_element.send_keys(Keys.TAB)
        at = "return document.activeElement.closest('#table-0 th')?.textContent ?? ''"
        if "test accuracy" in page.execute_script(at):
            break
    page.switch_to.active_element.send_keys(Keys.ENTER)
    until(lambda: accuracies(page) == sorted(before))
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert page.execute_script(outline) == "solid"


def test_the_filter_filters_its_own_table(page: WebDriver) -> None:
    others = page.find_elements(By.CSS_SELECTOR, "#table-1 tbody tr")
    filters = page.find_elements(By.CSS_SELECTOR, "input[type=search]")
    assert 1 <= len(filters) < len(page.find_elements(By.CSS_SELECTOR, "table.sortable"))  # small tables have none
    filters[0].send_keys("from step")
    until(lambda: len(summary(page)) == 2)
    assert all("clipping from step 50" in row[0] for row in summary(page))
    assert page.find_elements(By.CSS_SELECTOR, "#table-1 tbody tr") == others
    filters[0].send_keys(Keys.BACKSPACE * 9, "no arm has this name")
    until(lambda: summary(page) == [["No row has this text."]])


# --- Screens ---


def background(page: WebDriver, scheme: str) -> str:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    return page.execute_script("return getComputedStyle(document.body).backgroundColor")


def test_dark_mode(page: WebDriver) -> None:
    light, dark = background(page, "light"), background(page, "dark")
    assert light == "rgb(255, 255, 255)" and dark != light
    card = "return getComputedStyle(document.querySelector('figure img')).backgroundColor"
    assert page.execute_script(card) == "rgb(255, 255, 255)"  # figures are drawn on white


@pytest.mark.parametrize("width", [320, 375, 768, 1280])
def test_the_page_does_not_scroll_sideways(page: WebDriver, width: int) -> None:
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    page.execute_script("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    wide = "return document.querySelector('#table-0').scrollWidth > document.documentElement.clientWidth"
    assert page.execute_script(wide) or width > 375  # the table scrolls in its own box


def emulated(page: WebDriver, width: int) -> WebDriver:
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    return page


@pytest.mark.parametrize("table", ["#table-ablation", "#table-0"])
def test_the_first_column_stays_in_view_on_a_phone(page: WebDriver, table: str) -> None:
    emulated(page, 390)
    scrolled, left = page.execute_script(
        """
        const cell = document.querySelector(`${arguments[0]} tbody th`);
        let box = cell.parentElement;
        const scrolls = (e) => e.scrollWidth > e.clientWidth && getComputedStyle(e).overflowX === "auto";
        while (!scrolls(box)) box = box.parentElement;
        box.scrollLeft = 200;
        return [box.scrollLeft, cell.getBoundingClientRect().left - box.getBoundingClientRect().left];
        """,
        table,
    )
    assert scrolled > 100 and abs(left) < 2


def test_the_answer_the_forest_plot_and_the_table_are_on_the_first_screen(page: WebDriver) -> None:
    emulated(page, 1280)
    for selector in (".lead", ".next", "#forest", "#table-ablation thead"):
        assert page.find_element(By.CSS_SELECTOR, selector).rect["y"] < 800, selector
    assert "test accuracy" in page.find_element(By.CSS_SELECTOR, ".lead").text


def test_print_has_few_pages_and_splits_no_figure(page: WebDriver) -> None:
    options = {"preferCSSPageSize": True, "printBackground": True}
    pdf = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", options)["data"])
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 15
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    breaks = "return [...document.querySelectorAll('figure, .claim')].map((e) => getComputedStyle(e).breakInside)"
    assert set(page.execute_script(breaks)) == {"avoid"}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


# --- Accessibility, by axe-core ---


def axe_findings(page: WebDriver) -> dict[str, str]:
    """The rules that axe-core finds broken, with folded parts open -> their impact."""
    page.execute_script("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    page.execute_script(files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    page.set_script_timeout(120)
    found = page.execute_async_script("const done = arguments[0]; axe.run().then((found) => done(found.violations))")
    return {each["id"]: each["impact"] for each in found}


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_finds_nothing_serious(page: WebDriver, scheme: str, width: int) -> None:
    background(emulated(page, width), scheme)
    assert {"serious", "critical"}.isdisjoint(axe_findings(page).values())
    page.execute_script("document.querySelector('figure img').alt = ''; document.documentElement.lang = ''")
    page.execute_script("document.querySelector('.lead').style.cssText = 'color: #999; background: #aaa'")
    assert {"html-has-lang", "color-contrast"} <= axe_findings(page).keys()
