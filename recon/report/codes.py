"""The map of a model's codes, as `action=embed` has written it into a run folder, with the image under the pointer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recon.report import chart
from recon.report.elements import Html, note, section, tag
from recon.report.gather import Problem
from recon.report.pictures import Album

_MOST = 1000  # images on the page


def codes(problem: Problem, album: Album) -> Html | None:
    """The planes of the first run that has them, and the sheet of their images, from which a script takes one."""
    found = ((rank, entry.label, run) for rank, entry in enumerate(problem.entries, 1) for run in entry.runs)
    rank, name, run = next(((rank, label, run) for rank, label, run in found if run.map), (0, "", None))
    if run is None:
        return None
    arrays = {key: array[:_MOST] for key, array in run.map.items()}
    pixels, columns = _sheet(arrays["image"])
    height, width = arrays["image"].shape[1:3]
    sheet = album.image(pixels, "the images of the map", False, max(pixels.shape), class_="sheet", hidden="",
                        data_columns=columns, data_width=width, data_height=height)  # fmt: skip
    labels = arrays["label"].tolist()
    planes = [
        tag("figure", tag("figcaption", plane), chart.plane(f"{plane} of the codes", places.tolist(), labels))
        for plane, places in arrays.items() if plane not in ("index", "image", "label")
    ]  # fmt: skip
    names = run.folder.classes
    known = [f"{label} {names[label]}" for label in sorted(set(labels)) if 0 <= label < len(names)]
    text = f"{len(labels):,} test images by the codes of {rank} {name}, each written as the number of its class"
    classes = f": {', '.join(known)}." if any(each.split(" ", 1)[0] != each.split(" ", 1)[1] for each in known) else "."
    hint = tag("p", "Point at a number to see its image, in each plane.", class_="note needs-script")
    inside = tag("div", tag("div", planes, class_="charts"), sheet, class_="planes")
    return section("The map of the codes", note(text, classes), hint, inside)


def _sheet(images: NDArray[Any]) -> tuple[NDArray[np.uint8], int]:
    """Lay images (N,h,w,C) side by side, nearly in a square: (H,W,3), and how many columns it has."""
    count, height, width = images.shape[:3]
    columns = math.ceil(math.sqrt(count))
    rows = -(-count // columns)
    sheet = np.zeros((rows * columns, height, width, 3), np.uint8)
    sheet[:count] = images
    laid = sheet.reshape(rows, columns, height, width, 3).swapaxes(1, 2)
    return laid.reshape(rows * height, columns * width, 3), columns
