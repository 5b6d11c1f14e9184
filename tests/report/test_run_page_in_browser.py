"""The page in a real browser, from a file: it works without a network, on a desk and on a phone."""

import io
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from diff3r_plugin.evaluation import SavedScene
from diff3r_plugin.render import render
from diff3r_plugin.report.run_page import write_run_page

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
SIZES = {"desktop": {"width": 1400, "height": 900}, "phone": {"width": 400, "height": 800}}


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        found = next(filter(None, map(shutil.which, NAMES)), playwright.chromium.executable_path)
        if not os.path.exists(found):
            pytest.skip("there is no Chromium here")
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page_file(run_folder, tmp_path_factory):
    return write_run_page(run_folder, tmp_path_factory.mktemp("page") / "page.html")


@pytest.fixture(scope="module", params=SIZES)
def page(request, browser, page_file):
    """The page at one size; at the end, nothing may have gone wrong in it and nothing been asked for."""
    context = browser.new_context(viewport=SIZES[request.param], has_touch=request.param == "phone", offline=True)
    page, troubles = context.new_page(), []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda asked: troubles.append(asked.url) if not asked.url.startswith("data:") else None)
    page.goto(page_file.as_uri())
    assert troubles == [page_file.as_uri()]
    troubles.clear()
    yield page
    assert troubles == []
    context.close()


def pixels(locator) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("RGB")).astype(int)


def test_nothing_is_wider_than_the_screen(page):
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def test_slider_moves_the_cut_between_before_and_after(page):
    compare = page.locator(".compare").first
    compare.scroll_into_view_if_needed()
    box = compare.bounding_box()
    shown = {}
    for share in (0.02, 0.98):
        page.mouse.click(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
        shown[share] = pixels(compare)
        assert float(compare.locator("input").input_value()) == pytest.approx(100 * share, abs=4)
    middle = np.s_[:, int(0.2 * box["width"]) : int(0.8 * box["width"])]
    assert np.abs(shown[0.02][middle] - shown[0.98][middle]).mean() > 1
    value = float(compare.locator("input").input_value())
    compare.locator("input").press("ArrowLeft")
    assert float(compare.locator("input").input_value()) == value - 1


def test_table_sorts_by_numbers(page):
    heading = page.locator("#scenes thead th", has_text="gain").first
    column = [h.strip() for h in page.locator("#scenes thead th").all_inner_texts()].index("gain")

    def gains() -> list[float]:
        return [float(row.locator("td, th").nth(column).inner_text()) for row in page.locator("#scenes tbody tr").all()]

    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert gains() == sorted(gains(), reverse=True)
    heading.locator("button").click()
    assert gains() == sorted(gains())


def test_tabs_change_the_target_view(page):
    scene = page.locator(".scene").first
    scene.get_by_role("button", name="view 2").click()
    assert [view.is_visible() for view in scene.locator(".view").all()] == [False, True]


@pytest.fixture
def canvas(page):
    page.locator(".walk .open").first.click()
    page.wait_for_selector("canvas[data-drawn]")
    yield page.locator("canvas")
    page.locator(".walk .open").first.click()
    assert page.locator("canvas").count() == 0


def redrawn(page, canvas, action) -> np.ndarray:
    """The canvas after an action, once it has been drawn again."""
    count = int(canvas.get_attribute("data-drawn"))
    action()
    page.wait_for_selector(f"canvas:not([data-drawn='{count}'])")
    return pixels(canvas)


def as_image(shown: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(Image.fromarray(shown.astype(np.uint8)).resize((size, size), Image.Resampling.BOX)).astype(float)


def test_the_scene_in_3d_starts_as_its_context_view_and_shows_both_states(page, canvas, run_folder):
    name = page.locator(".scene h3").first.inner_text()
    saved = SavedScene.load(run_folder / "diff3r" / name / "scene.pt")
    expected = render(saved.gaussians, saved.context.replace(images=None))[0, 0].clamp(0, 1)
    after = pixels(canvas)
    before = redrawn(page, canvas, lambda: page.get_by_role("button", name="before", exact=True).click())
    assert after.std() > 10 and np.abs(after - before).mean() > 1
    expected = expected.permute(1, 2, 0).numpy() * 255
    inner = np.s_[2:-2, 2:-2]  # the corners of the canvas are round
    error = np.square(as_image(before, len(expected))[inner] - expected[inner]).mean()
    assert 10 * np.log10(255**2 / error) > 28  # dB; 8-bit colors, and a finer grid of pixels
    assert np.square(as_image(after, len(expected))[inner] - expected[inner]).mean() > 2 * error


def test_dragging_turns_the_scene_and_one_can_go_back(page, canvas):
    start = pixels(canvas)
    box = canvas.bounding_box()

    def drag():
        page.mouse.move(box["x"] + 60, box["y"] + 60)
        page.mouse.down()
        page.mouse.move(box["x"] + 160, box["y"] + 100, steps=3)
        page.mouse.up()

    turned = redrawn(page, canvas, drag)
    assert np.abs(turned - start).mean() > 3
    again = redrawn(page, canvas, lambda: page.get_by_role("button", name="start view").click())
    assert np.abs(again - start).mean() < 0.5
    canvas.focus()
    assert np.abs(redrawn(page, canvas, lambda: canvas.press("ArrowLeft")) - start).mean() > 1
    redrawn(page, canvas, lambda: page.get_by_role("button", name="start view").click())
    assert np.abs(redrawn(page, canvas, lambda: canvas.press("+")) - start).mean() > 1


def test_fingers_turn_and_zoom_the_scene(page, canvas):
    if page.viewport_size["width"] > 500:
        pytest.skip("no fingers on a desk")
    session, start = page.context.new_cdp_session(page), pixels(canvas)

    def touch(kind, *places):
        box = canvas.bounding_box()
        points = [{"x": box["x"] + x, "y": box["y"] + y, "id": n} for n, (x, y) in enumerate(places)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def swipe():
        touch("touchStart", (50, 100))
        touch("touchMove", (150, 120))
        touch("touchEnd")

    def pinch():
        touch("touchStart", (100, 100), (140, 140))
        touch("touchMove", (60, 60), (180, 180))
        touch("touchEnd")

    canvas.scroll_into_view_if_needed()
    scrolled = page.evaluate("scrollY")
    assert np.abs(redrawn(page, canvas, swipe) - start).mean() > 3
    assert page.evaluate("scrollY") == scrolled
    redrawn(page, canvas, lambda: page.get_by_role("button", name="start view").click())
    canvas.scroll_into_view_if_needed()
    assert np.abs(redrawn(page, canvas, pinch) - start).mean() > 3
