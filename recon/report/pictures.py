"""The same images through every model, and the worst of each, embedded, under a magnifier."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from recon.report import chart
from recon.report.elements import Child, Html, note, section, tag
from recon.report.gather import Problem
from recon.report.run import Run

_SAMPLES = 6  # images shown through each model
_MODELS = 8  # models that they are shown through
_WORST_OF, _WORST = 4, 6  # models of which the worst are shown, and how many of each
_LARGEST = 256  # longer sides are shrunk
_NOTES = {
    "restore": "The same test images through the best seed of each model",
    "recognise": "The same test images, with what the best seed of each model takes them for.",
    "generate": "Images that the best seed of each model makes of the same labels, beside a clean one.",
}
Arrays = dict[str, NDArray[Any]]


class Album:
    """Embeds images up to a budget.

    Args:
        budget: bytes of all images together.
    """

    def __init__(self, budget: int = 12_000_000) -> None:
        self.left, self.left_out = budget, 0

    def image(self, pixels: NDArray[Any], alt: str) -> Html | None:
        """Make an image of (H,W,C) uint8, C = 1 or 3; None where the budget is spent."""
        from PIL import Image

        picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        picture.thumbnail((_LARGEST, _LARGEST))
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG", optimize=True)
        data = base64.b64encode(buffer.getvalue()).decode()
        if len(data) > self.left:
            self.left_out += 1
            return None
        self.left -= len(data)
        kind = "pixels" if max(picture.size) <= 64 else None
        width, height = picture.size
        return tag("img", src=f"data:image/png;base64,{data}", alt=alt, width=width, height=height, class_=kind)


def samples(problem: Problem, album: Album) -> Html | None:
    """The first test images through the best run of each of the first entries."""
    chosen: list[_Shown] = []
    for rank, entry in enumerate(problem.entries[:_MODELS], 1):
        run = entry.best(problem.main)
        if arrays := run.pictures("samples"):
            chosen.append(_Shown(rank, entry.label, run, arrays))
    if not chosen:
        return None
    common = set.intersection(*(set(shown.arrays["index"].tolist()) for shown in chosen))
    indices = [index for index in chosen[0].arrays["index"].tolist() if index in common][:_SAMPLES]
    groups = [_group(problem, index, chosen, album, " in each model") for index in indices]
    if not any(groups):
        return None
    text = _NOTES[problem.kind]
    if problem.kind == "restore":
        text += f"; below each its own {problem.main.label} in {problem.main.unit}." if problem.main else "."
    legend = chart.legend([(shown.rank, shown.label) for shown in chosen])
    rows = tag("div", groups, class_="side") if problem.kind == "recognise" else groups
    return section("The same images through each model", legend, note(text), _hint(), rows)


def worst(problem: Problem, album: Album) -> Html | None:
    """The worst images of the best run of each of the first entries."""
    parts: list[Child] = []
    for rank, entry in enumerate(problem.entries[:_WORST_OF], 1):
        run = entry.best(problem.main)
        shown = _Shown(rank, entry.label, run, run.pictures("worst"))
        indices = shown.arrays["index"].tolist()[:_WORST] if shown.arrays else []
        name = f", among the worst of {rank} {entry.label}"
        groups = [_group(problem, index, [shown], album, name) for index in indices]
        if any(groups):
            heading = tag("h4", chart.badge(rank), " ", entry.label)
            parts.append(tag("div", heading, tag("div", groups, class_="side")))
    if not parts:
        return None
    text = "Where a model fails most, its best seed's worst test images first: look here before you trust a mean."
    return section("The worst images", note(text), _hint(), parts)


@dataclass(frozen=True)
class _Shown:
    """The pictures of one run, and the rank and label of its entry."""

    rank: int
    label: str
    run: Run
    arrays: Arrays

    def image(self, album: Album, name: str, index: int, by: str = "") -> Html | None:
        """Embed one of its images."""
        row = self.arrays["index"].tolist().index(index)
        return album.image(self.arrays[name][row], f"{name}{by}, test image {index}")

    def value(self, name: str, index: int) -> float:
        """Return a value of an image in the table of the test; NaN where there is none."""
        indices = self.run.images.get("index")
        if indices is None or name not in self.run.images:
            return math.nan
        rows = (indices == index).nonzero()[0]
        return float(self.run.images[name][rows[0]]) if len(rows) else math.nan


def _group(problem: Problem, index: int, chosen: Sequence[_Shown], album: Album, more: str) -> Html | None:
    """A row of tiles that the magnifier moves over as one; `more` completes its name for screen readers."""
    first = chosen[0]
    tiles: list[Child] = [
        _tile(first.image(album, name, index), name) for name in ("degraded", "clean") if name in first.arrays
    ]
    if problem.kind == "recognise":
        tiles.append(tag("ul", [_prediction(shown, index) for shown in chosen], class_="seen"))
    else:
        tiles += [tile for shown in chosen for tile in _results(problem, shown, index, album)]
    if not tiles:
        return None
    inside = tag("p", f"Test image {index}", class_="sample-name"), tag("div", tiles, class_="tiles")
    return tag("div", inside, role="group", aria_label=f"Test image {index}{more}", class_="same")


def _results(problem: Problem, shown: _Shown, index: int, album: Album) -> Iterator[Html]:
    """What one model made of an image: the restored one with its value, or two samples."""
    restores = problem.kind == "restore"
    samples = [name for name in shown.arrays if name.startswith("sample")][:2]
    for name in (["restored"] if "restored" in shown.arrays else []) if restores else samples:
        value = shown.value(problem.main.name, index) if restores and problem.main else math.nan
        number = problem.main.text(value) if problem.main and math.isfinite(value) else ""
        image = shown.image(album, name, index, f" by {shown.rank} {shown.label}")
        yield _tile(image, chart.badge(shown.rank), f" {number}")


def _prediction(shown: _Shown, index: int) -> Html:
    """What one classifier takes an image for."""
    prediction, label = shown.value("prediction", index), shown.value("label", index)
    badge = chart.badge(shown.rank)
    if not math.isfinite(prediction):
        return tag("li", badge, " no record")
    if prediction == label:
        return tag("li", badge, f" {prediction:g}, right")
    return tag("li", badge, f" {prediction:g}, wrong: it is {label:g}", class_="wrong")


def _tile(image: Html | None, *caption: Child) -> Html:
    lens = tag("div", image, class_="lens") if image else tag("div", "left out", class_="lens none")
    return tag("figure", lens, tag("figcaption", caption))


def _hint() -> Html:
    words = (
        "Point at or touch an image to enlarge the same place in all of its row; with the keyboard, move to a row by "
        "Tab, then the arrow keys move the magnifier, + and − change it and Escape puts it away."
    )
    return tag("p", words, class_="note needs-script")
