"""The report in a real browser: nothing fetched, no error, sorting, gallery, colours, a phone, and without scripts."""

import base64
import shutil
from contextlib import closing
from itertools import pairwise

import numpy as np
import pytest
from madeup import displays, measured, store
from playwright import sync_api as api
from test_report import add_run, exhibit, picture

from mdebench.home import Home
from mdebench.report.page import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no chromium on PATH to try the report in")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A home with two runs, a table of five lines of which one lacks a number, a gallery, a figure and samples."""
    home = Home(tmp_path_factory.mktemp("report"))
    for name, label, shade in (("a", "re 0.33", 100), ("b", "rec 0.5", 200)):
        folder = add_run(home, name=name, label=label, method=label.split()[0])
        exhibit(folder, "rec 0.1", shade)
        exhibit(folder, "resampling", shade, k=10)
        picture(folder / "samples" / "000600.png", 10)
    picture(home.figures / "rank-pack-small.png", 90)
    (home.figures / "rank-pack-small.csv").write_text("a,b\n1,2\n")
    for label, value in (("pixels", 0.98), ("rec 0.1", 1.4), ("re 0.33", 1.05), ("rec 0.5", 10.2)):
        store(home, label, [measured(value), measured(value, "landmark_distance_iod")])
    store(home, "re 0.5", [measured(3.0, setting="frozen-head-5000")])
    return write_report(home, home.folder / "index.html", displays()).as_uri()


@pytest.fixture(scope="module")
def browser():
    with (
        api.sync_playwright() as playwright,
        closing(playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])) as browser,
    ):
        yield browser


@pytest.fixture
def visit(browser, report):
    """Opens the report with the given browser settings; at the end nothing may have failed or been fetched."""
    wrong, contexts = [], []

    def go(**settings):
        contexts.append(browser.new_context(**settings))
        contexts[-1].set_default_timeout(120_000)  # of ms: a busy machine is no error
        page = contexts[-1].new_page()
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else wrong.append(asked.url))
        page.goto(report)
        return page

    yield go
    for context in contexts:
        context.close()
    assert not wrong


def column(page, i):
    """The main text of a column of the first table, and its header."""
    table = page.locator("#part1 table").first
    cells = table.locator("tbody tr").evaluate_all(f"rows => rows.map(row => row.cells[{i}].innerText.split(/\\s/)[0])")
    return table.locator("thead th").nth(i), cells


def test_sorting_brings_the_best_first_and_turns_round(visit):
    page = visit()
    head, before = column(page, 3)
    assert sorted(before) != before and "–" in before
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    numbers = ["0.98", "1.05", "1.40", "10.20"]
    after = column(page, 3)[1]
    assert after[:4] == numbers and set(after[4:]) == {"–"}
    head.get_by_role("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    after = column(page, 3)[1]
    assert after[:4] == numbers[::-1] and set(after[4:]) == {"–"}
    first, _ = column(page, 0)
    first.get_by_role("button").click()
    assert column(page, 3)[1] == before and head.get_attribute("aria-sort") is None


def test_a_number_opens_the_window_that_tells_its_origin(visit):
    page = visit()
    dialog = page.locator("#origin")
    assert not dialog.is_visible()
    page.locator("#part1 a[data-rows]", has_text="1.05").first.click()
    told = dialog.inner_text()
    assert (
        "results/rows/landmarks/re 0.33-small-seed0.jsonl" in told
        and "interval 0.95 to 1.15" in told
        and "cdcd" in told
    )
    dialog.get_by_role("link").click()
    assert not dialog.is_visible()
    target = page.locator("li:target")
    assert target.is_visible() and "1.05" in target.inner_text()
    page.locator("#part1 a[data-rows]", has_text="0.98").first.click()
    page.keyboard.press("Escape")
    assert not dialog.is_visible()


def pixel(page, which):
    """The middle pixel of a canvas of the gallery's stage, once it is drawn."""
    canvas = page.locator("#stage canvas").nth(which)
    canvas.evaluate(
        "c => new Promise(done => { const look = () => c.width === 300 ? setTimeout(look, 5) : done(); look(); })"
    )
    data = canvas.evaluate("c => [...c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data]")
    return np.array(data[:3])


def test_the_gallery_shows_what_is_picked(visit):
    """On stage: what was seen, completion, composite, original; original i is 10·i, completions are 100 and 200."""
    page = visit()
    page.select_option("#pick-exhibit", label="pack: rec 0.1")
    page.select_option("#pick-run", label="rec 0.5")
    assert np.abs(pixel(page, 1) - 200).max() < 12 and pixel(page, 0).max() < 20
    page.select_option("#pick-run", label="re 0.33")
    assert np.abs(pixel(page, 1) - 100).max() < 12 and np.abs(pixel(page, 2) - 100).max() < 12
    assert pixel(page, 3).max() < 12
    page.get_by_label("previous image").click()
    assert np.abs(pixel(page, 3) - 70).max() < 12 and "image 8 of 8" in page.locator("#viewer").inner_text()
    page.locator("#thumbs button").nth(4).click()
    assert np.abs(pixel(page, 3) - 40).max() < 12
    page.locator("#others button").nth(1).click()
    assert page.input_value("#pick-run") == "rec 0.5" and np.abs(pixel(page, 1) - 200).max() < 12
    page.select_option("#pick-exhibit", label="pack: resampling")
    assert page.locator("#stage canvas").count() == 11
    labels = page.locator("#stage canvas").evaluate_all("all => all.map(each => each.getAttribute('aria-label'))")
    assert "step 10 by rec 0.5" in labels[-1]


def test_colours_follow_the_system_until_the_button_is_used(visit):
    def background(page):
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light, dark = visit(color_scheme="light"), visit(color_scheme="dark")
    assert background(light) != background(dark)
    light.locator("#theme").click()
    assert background(light) == background(dark)
    light.wait_for_timeout(500)  # what a page keeps reaches the browser's own process a moment later
    light.reload()
    assert background(light) == background(dark)
    light.locator("#theme").click()
    assert background(light) != background(dark)


def test_a_phone_scrolls_down_only(visit):
    page = visit(viewport={"width": 390, "height": 844})
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    wide = page.locator("#runs .wide")
    assert wide.evaluate("box => box.scrollWidth > box.clientWidth")


def test_without_scripts_everything_can_be_read(visit):
    page = visit(java_script_enabled=False)
    assert page.locator("#part1 table").first.is_visible() and not page.locator("#viewer").is_visible()
    assert not page.locator("#theme").is_visible()
    page.locator("#strips > summary").click()
    page.locator(".exhibit > summary").first.click()
    shown = page.locator(".exhibit").first.locator("img")
    assert shown.count() == 3 and all(shown.nth(i).is_visible() for i in range(3))
    page.locator("#part1 a[data-rows]", has_text="1.05").first.click()
    assert page.locator("li:target").is_visible()  # the browser itself opens what it lies in


def test_every_picture_loads_and_says_what_it_shows(visit, record_property):
    page = visit()
    images = page.locator("img").evaluate_all(
        "all => Promise.all(all.map(async each => { await each.decode(); return [each.naturalWidth, each.alt]; }))"
    )
    assert len(images) == 9 and all(width > 0 and len(alt) > 15 for width, alt in images)
    levels = page.locator("h1, h2, h3, h4").evaluate_all("all => all.map(each => Number(each.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    link = page.get_by_role("link", name="as CSV").get_attribute("href")
    assert base64.b64decode(link.partition(",")[2]) == b"a,b\n1,2\n"
    record_property("load_ms", page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
