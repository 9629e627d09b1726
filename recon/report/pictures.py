"""The same images through every model, and the worst of each: real pixels, embedded, under a magnifier."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from recon.measures import measure
from recon.report import chart
from recon.report.gather import Configuration, Problem
from recon.report.html import Child, Html, tag
from recon.report.run import Run

_SAMPLES = 6  # images shown through each model
_MODELS = 8  # models that they are shown through
_WORST_OF, _WORST = 4, 6  # models of which the worst are shown, and how many of each
_LARGEST = 256  # sides above are shrunk


class Album:
    """Embeds images until a page holds enough of them.

    Args:
        budget: bytes of all images together.
    """

    def __init__(self, budget: int = 12_000_000) -> None:
        self.left, self.left_out = budget, 0

    def image(self, pixels: NDArray[Any], alt: str) -> Html | None:
        """Make an image of (H,W,C) uint8, C = 1 or 3; None where the page holds enough already."""
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
    """The first test images through the best run of each of the first configurations."""
    chosen: list[tuple[int, Configuration, Run, dict[str, NDArray[Any]]]] = []
    for rank, found in enumerate(problem.configurations[:_MODELS], 1):
        run = found.best(problem.main or "loss")
        if arrays := run.pictures("samples"):
            chosen.append((rank, found, run, arrays))
    if not chosen:
        return None
    common = set.intersection(*(set(arrays["index"].tolist()) for *_, arrays in chosen))
    groups = []
    for index in [place for place in chosen[0][3]["index"].tolist() if place in common][:_SAMPLES]:
        tiles = _shared_tiles(problem, chosen[0][3], index, album)
        if problem.kind == "recognise":
            tiles.append(tag("ul", [_seen(run, index, rank) for rank, _, run, _ in chosen], class_="seen"))
        for rank, found, run, arrays in chosen if problem.kind != "recognise" else []:
            tiles += _tiles_of(problem, rank, found.label, run, arrays, index, album)
        groups.append(_group(f"Test image {index}", tiles, " in each model"))
    if not any(groups):
        return None
    words = {
        "restore": "The same test images through the best seed of each model; below each its own "
        f"{measure(problem.main or '').label} in {measure(problem.main or '').unit}.",
        "recognise": "The same test images, with what the best seed of each model takes them for.",
        "generate": "Images that the best seed of each model makes of the same labels, beside a clean one.",
    }
    rows = tag("div", groups, class_="side") if problem.kind == "recognise" else groups
    note = tag("p", words[problem.kind], class_="note")
    return tag("section", tag("h3", "The same images through each model"), _legend(chosen), note, _hint(), rows)


def worst(problem: Problem, album: Album) -> Html | None:
    """The images that came out worst of the best run of each of the first configurations."""
    parts: list[Child] = []
    for rank, found in enumerate(problem.configurations[:_WORST_OF], 1):
        run = found.best(problem.main or "loss")
        arrays = run.pictures("worst")
        groups = []
        for index in arrays["index"].tolist()[:_WORST] if arrays else []:
            tiles = _shared_tiles(problem, arrays, index, album)
            if problem.kind == "recognise":
                tiles.append(tag("ul", _seen(run, index, rank), class_="seen"))
            else:
                tiles += _tiles_of(problem, rank, found.label, run, arrays, index, album)
            groups.append(_group(f"Test image {index}", tiles, f", among the worst of {rank} {found.label}"))
        if any(groups):
            badge = chart.badge(rank)
            parts.append(tag("div", tag("h4", badge, " ", found.label), tag("div", groups, class_="side")))
    if not parts:
        return None
    note = "Where a model fails most, its best seed's worst test images first: look here before you trust a mean."
    return tag("section", tag("h3", "The worst images"), tag("p", note, class_="note"), _hint(), parts)


def _shared_tiles(problem: Problem, arrays: dict[str, NDArray[Any]], index: int, album: Album) -> list[Child]:
    """What is the same for each model: the degraded and the clean image."""
    place = arrays["index"].tolist().index(index)
    names = [name for name in ("degraded", "clean") if name in arrays]
    return [_tile(album.image(arrays[name][place], f"{name}, test image {index}"), name) for name in names]


def _tiles_of(
    problem: Problem, rank: int, label: str, run: Run, arrays: dict[str, NDArray[Any]], index: int, album: Album
) -> list[Child]:
    """What one model made of an image."""
    place = arrays["index"].tolist().index(index)
    badge = chart.badge(rank)
    tiles: list[Child] = []
    for name in ["restored"] if problem.kind == "restore" else [n for n in arrays if n.startswith("sample")][:2]:
        if name in arrays:
            told = _figure_of(problem, run, index) if problem.kind == "restore" else ""
            image = album.image(arrays[name][place], f"{name} by {rank} {label}, test image {index}")
            tiles.append(_tile(image, badge, f" {told}"))
    return tiles


def _figure_of(problem: Problem, run: Run, index: int) -> str:
    value = _value(run, problem.main or "", index)
    return measure(problem.main or "").text(value) if math.isfinite(value) else ""


def _value(run: Run, name: str, index: int) -> float:
    places = run.images.get("index")
    if places is None or name not in run.images:
        return math.nan
    found = (places == index).nonzero()[0]
    return float(run.images[name][found[0]]) if len(found) else math.nan


def _seen(run: Run, index: int, rank: int) -> Html:
    """What one classifier takes an image for."""
    seen, truth = _value(run, "prediction", index), _value(run, "label", index)
    if not math.isfinite(seen):
        return tag("li", chart.badge(rank), " no record")
    if seen == truth:
        return tag("li", chart.badge(rank), f" {seen:g}, right")
    return tag("li", chart.badge(rank), f" {seen:g}, wrong: it is {truth:g}", class_="wrong")


def _tile(image: Html | None, *caption: Child) -> Html:
    return tag("figure", tag("div", image, class_="lens") if image else tag("div", "left out", class_="lens none"),
               tag("figcaption", caption))  # fmt: skip


def _group(name: str, tiles: Sequence[Child], more: str) -> Html | None:
    """A row that the magnifier moves over as one; `more` of its name is for those who do not see where it stands."""
    if not tiles:
        return None
    inside = tag("p", name, class_="sample-name"), tag("div", tiles, class_="tiles")
    return tag("div", inside, role="group", aria_label=name + more, class_="same")


def _legend(chosen: Sequence[tuple[int, Configuration, Run, Any]]) -> Html:
    return chart.legend([(rank, found.label) for rank, found, *_ in chosen])


def _hint() -> Html:
    words = (
        "Point at or touch an image to enlarge the same place in all of its row; with the keyboard, move to a row by "
        "Tab, then the arrow keys move the magnifier, + and − change it and Escape puts it away."
    )
    return tag("p", words, class_="note needs-script")
