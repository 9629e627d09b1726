"""A picture of codes in two dimensions: their principal components, and t-SNE (van der Maaten & Hinton 2008)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from recon.runs.draw import legible, shortened

_SIDE, _MARGIN, _LEGEND, _DOT, _SIZE = 560, 34, 150, 2, 14  # pixels
_COLOURS = (
    "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf",
)  # fmt: skip


def flat(vectors: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Lay vectors (N,D) into the plane: (N,2) by "PCA" and, from five vectors on, by "t-SNE"."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    width = min(2, *vectors.shape)
    components = PCA(width, random_state=0).fit_transform(vectors)
    found = {"PCA": np.pad(components, ((0, 0), (0, 2 - width)))}
    if len(vectors) >= 5:
        perplexity = min(30.0, (len(vectors) - 1) / 3)
        found["t-SNE"] = TSNE(2, perplexity=perplexity, init="random", random_state=0).fit_transform(vectors)
    return found


def picture(places: Mapping[str, NDArray[Any]], label: NDArray[Any], names: Sequence[str]) -> Image.Image:
    """Draw planes side by side, a dot for each image in the colour of its class.

    Args:
        places: (N,2) by the name of the plane.
        label: (N,) whole numbers, -1 for none.
        names: of the classes, or none for their numbers.
    """
    font = ImageFont.load_default(_SIZE)
    classes = sorted({int(each) for each in label if each >= 0})
    height = max(_SIDE + _MARGIN + 12, _MARGIN + 22 * len(classes) + 12)
    sheet = Image.new("RGB", ((_SIDE + 12) * len(places) + (_LEGEND if classes else 12), height), "white")
    pen = ImageDraw.Draw(sheet)
    # In an order that hides no class behind another.
    order = np.random.default_rng(0).permutation(len(label))
    for number, (name, points) in enumerate(places.items()):
        left = 12 + number * (_SIDE + 12)
        pen.text((left, 10), f"{name} of {len(label):,} codes", fill="black", font=font)
        pen.rectangle((left, _MARGIN, left + _SIDE - 1, _MARGIN + _SIDE - 1), outline="#bbbbbb")
        low, high = points.min(0), points.max(0)
        scaled = (points - (low + high) / 2) / max(float((high - low).max()), 1e-12) * (_SIDE - 24) + _SIDE / 2
        for index in order:
            x, y = left + scaled[index, 0], _MARGIN + _SIDE - scaled[index, 1]
            pen.ellipse((x - _DOT, y - _DOT, x + _DOT, y + _DOT), fill=_colour(int(label[index])))
    for row, each in enumerate(classes):
        top, left = _MARGIN + 22 * row, (_SIDE + 12) * len(places) + 18
        pen.ellipse((left, top + 3, left + 12, top + 15), fill=_colour(each))
        name = names[each] if each < len(names) else str(each)
        pen.text((left + 20, top), legible(shortened(name, 14)), fill="black", font=font)
    return sheet


def _colour(label: int) -> str:
    return _COLOURS[label % len(_COLOURS)] if label >= 0 else "#444444"
