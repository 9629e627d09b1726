"""The page in a real browser: sorting, filtering, the magnifier, a telephone's width, the dark, and axe-core."""

import base64
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from report_runs import copies
from test_sheet import grid

from recon import report

playwright = pytest.importorskip("playwright.sync_api", reason="the dev extra is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the dev extra is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; on Debian: apt-get install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def pages(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of all kinds of runs, and one of a dozen configurations."""
    folder = tmp_path_factory.mktemp("pages")
    list(copies(made / "sweep" / "unet-1", folder / "runs", seeds=2, rates=12, shift=lambda rate: 0.1 * rate))
    grid(made, folder / "levels", {"good": 3.0, "fair": 2.0, "poor": -1.0}, (0.1, 0.2, 0.3))
    return {
        "all": report.write(str(made), folder / "all.html"),
        "many": report.write(str(folder / "runs"), folder / "many.html"),
        "levels": report.write(str(folder / "levels"), folder / "levels.html"),
    }


class Shown:
    """A page in a browser that collects what the browser complains of."""

    def __init__(self, browser: Any, path: Path, **context: Any) -> None:
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def column(self, table: str, place: int) -> list[str]:
        found: list[str] = self.page.eval_on_selector_all(
            f"{table} tbody tr:not([hidden]) > :nth-child({place})", "cells => cells.map(c => c.textContent.trim())"
        )
        return found


@pytest.fixture
def show(browser: Any) -> Iterator[Any]:
    shown: list[Shown] = []

    def one(path: Path, **context: Any) -> Shown:
        shown.append(Shown(browser, path, **context))
        return shown[-1]

    yield one
    for each in shown:
        each.context.close()
        assert each.complaints == []
        assert all(url.startswith(("file:", "data:")) for url in each.asked), each.asked


BOARD = "[aria-label^='Leaderboard'] table"


def test_a_column_sorts_its_table_both_ways(pages: dict[str, Path], show: Any) -> None:
    shown = show(pages["many"])
    assert shown.column(BOARD, 1) == [str(rank) for rank in range(1, 13)]
    heads = shown.page.locator(f"{BOARD} thead th")
    place = next(k for k in range(heads.count()) if heads.nth(k).inner_text().startswith("PSNR (dB)"))
    button = heads.nth(place).get_by_role("button")
    button.click()
    values = [float(text.split()[0]) for text in shown.column(BOARD, place + 1)]
    assert values == sorted(values)
    assert heads.nth(place).get_attribute("aria-sort") == "ascending"
    button.press("Enter")  # the keyboard does what the mouse does
    assert [float(text.split()[0]) for text in shown.column(BOARD, place + 1)] == values[::-1]
    assert heads.nth(place).get_attribute("aria-sort") == "descending"
    heads.nth(1).get_by_role("button").click()
    assert shown.column(BOARD, 2) == sorted(shown.column(BOARD, 2))
    assert heads.nth(place).get_attribute("aria-sort") is None


def test_a_filter_leaves_what_contains_its_words(pages: dict[str, Path], show: Any) -> None:
    shown = show(pages["many"])
    shown.page.get_by_label("Show only what contains").first.fill("UNET 0.003")
    assert [name.startswith("unet · lr 0.003 ") for name in shown.column(BOARD, 2)] == [True]
    assert shown.page.get_by_text("1 of 12 shown").is_visible()
    shown.page.get_by_label("Show only what contains").last.fill("rate-3 seed-1")
    assert shown.page.locator(".run:visible").count() == 1


def zoomed(shown: Shown) -> list[tuple[str, str]]:
    """How the images of the first row are enlarged: their transforms and the places that stay where they are."""
    found: list[tuple[str, str]] = shown.page.eval_on_selector(
        ".same", "row => [...row.querySelectorAll('img')].map(i => [i.style.transform, i.style.transformOrigin])"
    )
    return found


def test_the_magnifier_shows_the_same_place_in_all_of_a_row(pages: dict[str, Path], show: Any) -> None:
    shown = show(pages["many"])
    image = shown.page.locator(".same").first.locator(".lens").nth(2)
    image.scroll_into_view_if_needed()
    box = image.bounding_box()
    shown.page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.75)
    found = zoomed(shown)
    assert len(found) == 18  # degraded, clean, and through eight models with the error of each
    assert all(found[0] == other for other in found)
    assert found[0][0] == "scale(4)"
    assert [float(part.rstrip("%")) for part in found[0][1].split()[:2]] == pytest.approx([25, 75], abs=1.5)
    shown.page.mouse.move(0, 0)
    assert {transform for transform, *_ in zoomed(shown)} == {""}


def test_the_magnifier_by_the_keyboard(pages: dict[str, Path], show: Any) -> None:
    shown = show(pages["many"])
    row = shown.page.locator(".same").first
    row.focus()
    row.press("ArrowRight")
    row.press("+")
    assert set(map(tuple, zoomed(shown))) == {("scale(8)", "60% 50%")}
    row.press("Escape")
    assert {transform for transform, *_ in zoomed(shown)} == {""}
    row.press("Tab")
    assert shown.page.evaluate("document.activeElement.className") == "same"


def test_the_magnifier_by_touch(pages: dict[str, Path], show: Any) -> None:
    shown = show(pages["many"], viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    image = shown.page.locator(".same").first.locator(".lens").first
    image.scroll_into_view_if_needed()
    box = image.bounding_box()
    session = shown.context.new_cdp_session(shown.page)
    points = [{"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}]
    session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": points})
    points[0]["x"] += 5
    session.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": points})
    assert {transform for transform, *_ in zoomed(shown)} == {"scale(4)"}
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert {transform for transform, *_ in zoomed(shown)} == {""}


def test_the_map_of_codes_shows_the_image_under_the_pointer(made: Path, tmp_path: Path, show: Any) -> None:
    shutil.copytree(made / "sweep" / "unet-1", tmp_path / "run")
    number = np.arange(40)
    grid_of = np.stack([number % 8, number // 8], 1).astype(np.float32)
    images = np.broadcast_to((6 * number).astype(np.uint8)[:, None, None, None], (40, 9, 8, 1))
    arrays = {"index": 5 + number, "label": number % 10, "image": images, "PCA": grid_of, "t-SNE": -grid_of}
    np.savez(tmp_path / "run" / "map.npz", **arrays)
    shown = show(report.write(str(tmp_path / "run"), tmp_path / "map.html"))
    assert shown.page.locator(".planes svg").count() == 2
    for which in (17, 39, 0):
        shown.page.locator(f".planes svg text[data-image='{which}']").first.hover()
        data = shown.page.eval_on_selector(".planes canvas", "canvas => canvas.toDataURL()").split(",")[1]
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert picture.size == (8, 9)
            assert picture.convert("L").getextrema() == (6 * which, 6 * which)
        assert shown.page.locator(f".planes text.at[data-image='{which}']").count() == 2
        assert shown.page.locator(".planes text.at").count() == 2
        assert shown.page.locator(".planes [role=status]").text_content() == f"Class {which % 10}"
    np.savez(tmp_path / "run" / "map.npz", **{**arrays, "image": images.astype(float)})
    page = report.write(str(tmp_path / "run"), tmp_path / "map.html").read_text()
    assert "map.npz cannot be read: it is no map of codes" in page


@pytest.mark.parametrize("name", ["all", "many", "levels"])
def test_a_telephone_needs_no_sideways_scrolling(name: str, pages: dict[str, Path], show: Any) -> None:
    shown = show(pages[name], viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    shown.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert shown.page.evaluate("document.documentElement.scrollWidth") == 360
    assert shown.page.evaluate("visualViewport.width") == 360
    hidden = "all => all.filter(box => box.scrollWidth > box.clientWidth).map(box => box.ariaLabel)"
    assert shown.page.eval_on_selector_all(".scroll", hidden) == [], "no column is cut off"
    labels = "cells => cells.filter(c => !c.dataset.label).map(c => c.outerHTML)"
    assert shown.page.eval_on_selector_all(".cards td:not(:empty)", labels) == [], "a cell tells its column"


def test_it_is_dark_in_the_dark(pages: dict[str, Path], show: Any) -> None:
    lightness = {}
    for scheme in ("light", "dark"):
        shown = show(pages["all"], color_scheme=scheme)
        colour = shown.page.evaluate("getComputedStyle(document.body).backgroundColor")
        lightness[scheme] = sum(map(int, colour.removeprefix("rgb(").rstrip(")").split(",")))
    assert lightness["dark"] < 150
    assert lightness["light"] > 700


def test_without_a_script_it_reads_the_same(pages: dict[str, Path], show: Any) -> None:
    shown = show(pages["all"], java_script_enabled=False)
    assert shown.page.locator("h1").is_visible()
    assert shown.page.locator(BOARD).first.is_visible()
    assert shown.page.locator(".lens img").first.is_visible()
    assert not shown.page.get_by_text("move the magnifier").first.is_visible()
    shown.page.get_by_text("The numbers").first.click()
    assert shown.page.locator("table.numbers:visible").count()


@pytest.mark.parametrize(
    ("scheme", "width", "name"), [("light", 1200, "all"), ("dark", 360, "all"), ("light", 1200, "levels")]
)
def test_axe_finds_nothing(scheme: str, width: int, name: str, pages: dict[str, Path], show: Any) -> None:
    shown = show(pages[name], color_scheme=scheme, viewport={"width": width, "height": 900})
    shown.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    found = axe.Axe().run(shown.page)
    assert found.response["passes"], "axe did not run"
    assert found.violations_count == 0, found.generate_report()
