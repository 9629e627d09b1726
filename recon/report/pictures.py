"""The same images through every model, and the worst of each, embedded, under a magnifier."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from recon.measures import DASH, ROWS
from recon.report import chart
from recon.report.elements import Child, Html, cut, note, section, tag
from recon.report.gather import Problem
from recon.report.run import Run
from recon.runs import tiles
from recon.runs.draw import UNDAMAGED, class_name

_SAMPLES = 6  # images shown through each model
_MODELS = 8  # models that they are shown through
_WORST_OF, _WORST = 4, 6  # models of which the worst are shown, and how many of each
_LARGEST = 256  # longer sides are shrunk
_DRAWN = 1024  # the same for pictures that an action has drawn
_SMALL, _CHECKERED = 64, 96  # images up to the first are shown in squares; those with holes enlarged to the second
_FEW = 5  # so many tiles a row may be larger
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

    def image(
        self, pixels: tiles.Pixels, alt: str, smooth: bool = True, largest: int = _LARGEST, **attributes: str | int
    ) -> Html | None:
        """Make an image of (H,W,3) uint8; None where the budget is spent. Only a smooth one is not shown in squares."""
        from PIL import Image

        grey = (pixels == pixels[..., :1]).all()
        picture = Image.fromarray(pixels[..., 0] if grey else pixels)
        picture.thumbnail((largest, largest))
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG", optimize=True)
        data = base64.b64encode(buffer.getvalue()).decode()
        if len(data) > self.left:
            self.left_out += 1
            return None
        self.left -= len(data)
        kind = None if smooth else "pixels"
        width, height = picture.size
        about = {"width": width, "height": height, "class_": kind, **attributes}
        return tag("img", src=f"data:image/png;base64,{data}", alt=alt, **about)

    def figures(self, drawn: Mapping[str, tiles.Pixels], label: str) -> list[Html]:
        """Make figures of pictures (H,W,3) that an action has drawn of a run, by their names."""
        named = {name.replace("_", " "): pixels for name, pixels in drawn.items()}
        images = {name: self.image(pixels, f"{name} of {label}", True, _DRAWN) for name, pixels in named.items()}
        return [
            tag("figure", tag("figcaption", name), image, class_="drawn") for name, image in images.items() if image
        ]


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
    limit = tiles.error_limit(*(shown.arrays for shown in chosen))
    groups = [_group(problem, index, chosen, album, " in each model", limit) for index in indices]
    if not any(groups):
        return None
    text = _NOTES[problem.kind]
    if problem.kind == "restore":
        text += f"; below each its own {problem.main.label} in {problem.main.unit}." if problem.main else "."
    legend = chart.legend([(shown.rank, shown.label) for shown in chosen])
    rows = tag("div", groups, class_="side") if problem.kind == "recognise" else groups
    scale = _scale(chosen, limit, album)
    return section("The same images through each model", legend, note(text), scale, _hint(), rows)


def worst(problem: Problem, album: Album) -> Html | None:
    """The worst images of the best run of each of the first entries."""
    best = [(rank, entry.label, entry.best(problem.main)) for rank, entry in enumerate(problem.entries[:_WORST_OF], 1)]
    chosen = [_Shown(rank, label, run, run.pictures("worst")) for rank, label, run in best]
    limit = tiles.error_limit(*(shown.arrays for shown in chosen))
    parts: list[Child] = []
    for shown in chosen:
        indices = shown.arrays["index"].tolist()[:_WORST] if shown.arrays else []
        name = f", among the worst of {shown.rank} {shown.label}"
        groups = [_group(problem, index, [shown], album, name, limit) for index in indices]
        if any(groups):
            heading = tag("h4", chart.badge(shown.rank), " ", shown.label)
            parts.append(tag("div", heading, tag("div", groups, class_="side")))
    if not parts:
        return None
    text = "Where a model fails most, its best seed's worst test images first: look here before you trust a mean."
    if problem.kind == "recognise":
        text = "The most confident mistakes of the best seed of each model, the surest first."
    return section("The worst images", note(text), _scale(chosen, limit, album), _hint(), parts)


@dataclass(frozen=True)
class _Shown:
    """The pictures of one run, and the rank and label of its entry."""

    rank: int
    label: str
    run: Run
    arrays: Arrays

    def images(self, index: int, limit: float) -> dict[str, tiles.Pixels]:
        """Compose its images of a sample, by column; small ones with holes are enlarged, to show a checkerboard."""
        row = self.arrays["index"].tolist().index(index)
        zoom = -(-_CHECKERED // self.side) if "mask" in self.arrays and self.side <= _SMALL else 1
        composed = tiles.columns({name: array[row : row + 1] for name, array in self.arrays.items()}, zoom, limit)
        return {name: each[0] for name, each in composed.items()}

    @property
    def side(self) -> int:
        """The longest side of its images."""
        return int(max(max(a.shape[1:3]) for name, a in self.arrays.items() if a.ndim == 4 and name != "whole"))

    def title(self, index: int) -> str:
        """Name a sample: by its file where it is one."""
        titles = dict(zip(self.arrays["index"].tolist(), self.arrays.get("title", ()), strict=False))
        return cut(str(titles.get(index, f"test image {index}")))

    def class_name(self, number: float) -> str:
        """Name a class."""
        return cut(class_name(number, self.run.folder.classes), 40)

    def psnr(self, name: str, index: int, problem: Problem) -> str:
        """Write a PSNR of an image, called so where another measure is the main one; "" where there is none."""
        value, called = self.value(name, index), "" if problem.main and problem.main.name == "psnr" else "PSNR "
        return f" {called}{ROWS[name].text(value, unit=True)}" if value < UNDAMAGED else ""

    def value(self, name: str, index: int) -> float:
        """Return a value of an image in the table of the test; NaN where there is none."""
        indices = self.run.images.get("index")
        if indices is None or name not in self.run.images:
            return math.nan
        rows = (indices == index).nonzero()[0]
        return float(self.run.images[name][rows[0]]) if len(rows) else math.nan


def _group(
    problem: Problem, index: int, chosen: Sequence[_Shown], album: Album, more: str, limit: float
) -> Html | None:
    """A row of tiles that the magnifier moves over as one; `more` completes its name for screen readers."""
    first, title = chosen[0], chosen[0].title(index)
    images, smooth = first.images(index, limit), first.side > _SMALL
    found: list[Child] = []
    for name in (name for name in ("degraded", "clean") if name in images):
        lenses = [_lens(album.image(images[name], f"{name}, {title}", smooth))]
        if not found and "whole" in images:
            whole = album.image(images["whole"], f"whole image with the window framed, {title}")
            lenses.append(tag("div", whole, class_="whole"))
        before = first.psnr("psnr_degraded", index, problem) if name == "degraded" else ""
        undamaged = problem.kind == "recognise" or (problem.kind == "restore" and "degraded" not in images)
        found.append(_tile(lenses, "image" if undamaged else name, before))
    if problem.kind == "recognise":
        found.append(tag("ul", [_prediction(shown, index) for shown in chosen], class_="seen"))
    else:
        found += [tile for shown in chosen for tile in _results(problem, shown, index, album, limit)]
    if not found:
        return None
    wide = "tiles few" if len(found) <= _FEW and smooth else "tiles"
    inside = tag("p", title, class_="sample-name"), tag("div", found, class_=wide)
    return tag("div", inside, role="group", aria_label=f"{title}{more}", class_="same")


def _results(problem: Problem, shown: _Shown, index: int, album: Album, limit: float) -> Iterator[Html]:
    """What one model made of an image: the restored one with its error and its value, or two samples."""
    restores, images, smooth = problem.kind == "restore", shown.images(index, limit), shown.side > _SMALL
    samples = [name for name in images if name.startswith("sample")][:2]
    for name in (["restored"] if "restored" in images else []) if restores else samples:
        value = shown.value(problem.main.name, index) if restores and problem.main else math.nan
        number = problem.main.text(value) if problem.main and math.isfinite(value) else ""
        names = [name, "error"] if restores and "error" in images else [name]
        by = f"by {shown.rank} {shown.label}, {shown.title(index)}"
        lenses = [_lens(album.image(images[each], f"{each} {by}", smooth)) for each in names]
        more = shown.psnr("psnr", index, problem) if problem.main and problem.main.name != "psnr" else ""
        yield _tile(lenses, chart.badge(shown.rank), f" {number}", more and f";{more}")


def _prediction(shown: _Shown, index: int) -> Html:
    """What one classifier takes an image for, and how sure it is."""
    prediction, label = shown.value("prediction", index), shown.value("label", index)
    confidence = ROWS["confidence"].text(shown.value("confidence", index), unit=True)
    badge = chart.badge(shown.rank)
    if not math.isfinite(prediction):
        return tag("li", badge, " no record")
    seen = f" {shown.class_name(prediction)}" + (f" ({confidence})" if confidence != DASH else "")
    if prediction == label:
        return tag("li", badge, f"{seen}, right")
    return tag("li", badge, f"{seen}, wrong: it is {shown.class_name(label)}", class_="wrong")


def _lens(image: Html | None) -> Html:
    return tag("div", image, class_="lens") if image else tag("div", "left out", class_="lens none")


def _tile(lenses: Sequence[Child], *caption: Child) -> Html:
    return tag("figure", lenses, tag("figcaption", caption))


def _scale(chosen: Sequence[_Shown], limit: float, album: Album) -> Html | None:
    """The colours of the errors, where some are shown."""
    if not any({"restored", "clean"} <= shown.arrays.keys() for shown in chosen):
        return None
    bar = album.image(tiles.colour_bar(120, 10), "blue, white, red")
    text = "Below each its error, the restored minus the clean image, of values from 0 to 1"
    return tag("p", f"{text}: −{limit:g} ", bar, f" +{limit:g}", class_="note scale")


def _hint() -> Html:
    words = (
        "Point at or touch an image to enlarge the same place in all of its row; with the keyboard, move to a row by "
        "Tab, then the arrow keys move the magnifier, + and − change it and Escape puts it away."
    )
    return tag("p", words, class_="note needs-script")
