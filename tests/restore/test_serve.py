"""The page of `action=serve` in a real browser; nothing but it is asked for anything."""

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from skimage.data import astronaut
from untrained import write

pytest.importorskip("gradio", reason="the serve extra is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="the dev extra is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; on Debian: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the page, and end it as a service manager does."""
    weights = write(tmp_path_factory.mktemp("weights"), "denoise", 3, 1)
    words = [sys.executable, str(ROOT / "run.py"), "action=serve", f"weights={weights}", "max_megabytes=1"]
    before = set(Path(tempfile.gettempdir()).glob("recon-serve-*"))
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "serve: " in line)
        yield line.split()[1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert set(Path(tempfile.gettempdir()).glob("recon-serve-*")) == before


@pytest.fixture
def page(address: str) -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        shown = browser.new_page()
        asked: list[str] = []
        shown.on("request", lambda request: asked.append(request.url))
        shown.goto(address)
        shown.get_by_role("button", name="Restore").wait_for()
        yield shown
        assert all(url.startswith((address, "data:", "blob:")) for url in asked), asked
        browser.close()


def upload(page: Any, path: Path) -> None:
    page.locator("input[type=file]").first.set_input_files(str(path))


def test_a_photograph_goes_in_and_comes_out_with_its_metadata(page: Any, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    Image.fromarray(astronaut()[:120, :160]).save(tmp_path / "photo.png", exif=exif)
    upload(page, tmp_path / "photo.png")
    page.get_by_text("PNG, 160 × 120 pixels, colour, 8 bits a channel").wait_for()
    page.get_by_label("Restore it even where little is gained").check()
    page.get_by_role("button", name="Restore").click()
    page.get_by_text("dB expected").wait_for(timeout=60_000)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the result").click()
    download.value.save_as(tmp_path / "mended.png")
    with Image.open(tmp_path / "mended.png") as image:
        assert image.size == (160, 120)
        assert image.getexif()[0x010F] == "Camera"
        assert (np.asarray(image) != astronaut()[:120, :160]).any()


def test_a_bad_file_is_refused_in_a_sentence(page: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    upload(page, tmp_path / "bad.png")
    page.get_by_text("The file cannot be used as an image (not in a format that can be read)").wait_for()


def test_the_page_fits_a_telephone(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
