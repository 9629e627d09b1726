"""Anomalies: how far an image is from those that a model was trained on, and how well that tells them apart."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from recon.codes.measured import Found, Numbers
from recon.codes.of_run import Coded
from recon.codes.retrieval import nearest
from recon.console import tracked
from recon.data.loader import Loader
from recon.errors import InputError
from recon.modules.base import Module
from recon.modules.vae import VAEModule
from recon.pair import Pair

_DRAWS = 200  # of a bootstrap
_BARS = 40  # of a histogram

SCORES = {
    "reconstruction": "mean squared error of the rebuilt image",
    "standardised": "mean of each pixel's squared error over that of normal validation images, there and on average",
    "bound": "negative evidence lower bound of the VAE, in nats",
    "mahalanobis": "squared Mahalanobis distance of the code from the training images' (Ledoit-Wolf covariance)",
    "knn": "mean distance of the code from the k nearest of the training images",
    "pixels": "mean distance of the pixels (at most 32 a side) from the k nearest training images; needs no model",
}


def require_both(label: Tensor, normal: tuple[int, ...]) -> Tensor:
    """Return which images (N,) are anomalous by their labels; raises InputError where not both kinds are there."""
    if not normal:
        raise InputError("task.normal: this run was trained on all classes, and two kinds of images are needed; train "
                         "one with task.normal=[0], or another class")  # fmt: skip
    anomalous = ~torch.isin(label, torch.tensor(normal))
    if anomalous.all() or not anomalous.any():
        lacking = "normal" if anomalous.all() else "anomalous"
        raise InputError(f"task.test: no test image is {lacking}, and both kinds are needed; add some")
    return anomalous


@torch.inference_mode()
def usual_error(module: Module, loader: Loader[Any]) -> Tensor | None:
    """Return the mean squared error at each pixel of rebuilt normal images (C,H,W); None where their sizes differ."""
    served: Collection[Pair] = loader  # type: ignore[assignment]
    sums, count = None, 0
    for pair in tracked(served, "rebuild normal images"):
        total = _squared_error(module, unlabelled(pair, module)).sum(0)
        if sums is not None and sums.shape != total.shape:
            return None
        sums, count = total if sums is None else sums + total, count + len(pair.index)
    return None if sums is None else sums / count


@torch.inference_mode()
def scores_of_images(module: Module, loader: Loader[Any], usual: Tensor | None) -> dict[str, Tensor]:
    """Score images by how a model rebuilds them, without their labels: (N,) each, in the order of their indices.

    Args:
        module: the model.
        loader: of the images.
        usual: the mean squared error of each pixel of normal images (C,H,W), or None for no score by it.
    """
    served: Collection[Pair] = loader  # type: ignore[assignment]
    parts: list[dict[str, Tensor]] = []
    for pair in tracked(served, "rebuild"):
        here = unlabelled(pair, module)
        error = _squared_error(module, here)
        part = {"index": pair.index, "reconstruction": error.mean((1, 2, 3))}
        if usual is not None and usual.shape == error.shape[1:]:
            # The mean keeps pixels that are always rebuilt, such as those of the border, from outweighing all others.
            part["standardised"] = (error / (usual + usual.mean()).clamp(min=1e-12)).mean((1, 2, 3))
        if isinstance(module, VAEModule):
            part["bound"] = module.step(here).loss.float()
        parts.append({name: values.cpu() for name, values in part.items()})
    names = [name for name in parts[0] if all(name in part for part in parts)]
    whole = {name: torch.cat([part[name] for part in parts]) for name in names}
    order = whole.pop("index").argsort()
    return {name: values[order] for name, values in whole.items()}


def _squared_error(module: Module, pair: Pair) -> Tensor:
    return (module.predict(pair).float() - pair.clean).square()


def unlabelled(pair: Pair, module: Module) -> Pair:
    """Return a pair on the device of a module, without labels, which no anomaly detector is given."""
    here = Pair(*(part.to(module.device) for part in pair))
    return here._replace(label=torch.full_like(here.label, -1))


def scores_of_codes(train: Coded, test: Coded, k: int) -> dict[str, Tensor]:
    """Score codes by their distance from those of the training images: (N,) each."""
    from sklearn.covariance import LedoitWolf

    if k > len(train.codes):
        raise InputError(
            f"k: {k} neighbours are more than there are training images ({len(train.codes):,}); give fewer"
        )
    law = LedoitWolf().fit(train.codes.double().numpy())
    distances = law.mahalanobis(test.codes.double().numpy())
    return {"mahalanobis": torch.from_numpy(distances), "knn": nearest(train.codes, test.codes, k)[0].mean(1)}


def scores_of_pixels(train: NDArray[np.uint8], test: NDArray[np.uint8], k: int) -> dict[str, Tensor]:
    """Score images (N,h,w,C) by their distance from the training images (M,h,w,C), without any model: (N,)."""
    gallery, queries = (torch.from_numpy(each).flatten(1).float() / 255 for each in (train, test))
    return {"pixels": nearest(gallery, queries, k)[0].mean(1)}


def measured(score: Numbers, anomalous: NDArray[np.bool_]) -> dict[str, Found]:
    """Measure how well a score (N,), higher for anomalies, tells them (N,) apart.

    >>> measured(np.array([0.0, 1.0, 2.0, 3.0]), np.array([False, False, True, True]))["auc"]
    Found(value=1.0, low=1.0, high=1.0)

    Returns:
        "auc", the area under the ROC curve, and "average_precision"; drawn again are normal and anomalous images apart.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    draw = np.random.default_rng(0)
    kinds = [np.flatnonzero(anomalous == kind) for kind in (False, True)]
    drawn = [np.concatenate([draw.choice(kind, len(kind)) for kind in kinds]) for _ in range(_DRAWS)]
    measures: dict[str, Callable[[Any, Any], float]] = {
        "auc": roc_auc_score, "average_precision": average_precision_score,
    }  # fmt: skip
    found = {}
    for name, measure in measures.items():
        values = [measure(anomalous[some], score[some]) for some in drawn]
        low, high = np.quantile(values, [0.025, 0.975])
        found[name] = Found(float(measure(anomalous, score)), float(low), float(high))
    return found


def histograms(scores: Mapping[str, Numbers], anomalous: NDArray[np.bool_]) -> Image.Image:
    """Draw the scores (N,) of normal and of anomalous images, each kind as a share of itself, side by side."""
    width, height, gap, font = 360, 220, 40, ImageFont.load_default(14)
    sheet = Image.new("RGB", (gap + (width + gap) * len(scores), height + 3 * gap), "white")
    colours = {False: (31, 119, 180), True: (214, 39, 40)}
    for number, (name, score) in enumerate(scores.items()):
        left, top = gap + number * (width + gap), gap
        # The few that are farthest would leave the rest no room.
        ends = np.quantile(score, [0.002, 0.99])
        edges = np.linspace(ends[0], max(ends[1], ends[0] + 1e-12), _BARS + 1)
        shares = {
            kind: np.histogram(score[anomalous == kind].clip(edges[0], edges[-1]), edges)[0] / (anomalous == kind).sum()
            for kind in (False, True)
        }
        most = max(float(each.max()) for each in shares.values())
        for kind, share in shares.items():
            layer = Image.new("RGBA", sheet.size, (0, 0, 0, 0))
            pen = ImageDraw.Draw(layer)
            for bar, value in enumerate(share / most * height):
                x = left + bar * width / _BARS
                if value > 0:
                    pen.rectangle((x, top + height - value, x + width / _BARS - 1, top + height), (*colours[kind], 140))
            sheet = Image.alpha_composite(sheet.convert("RGBA"), layer).convert("RGB")
        pen = ImageDraw.Draw(sheet)
        pen.line((left, top + height, left + width, top + height), "black")
        pen.text((left, 12), name, "black", font)
        for anchor, place, value in (("la", left, edges[0]), ("ra", left + width, edges[-1])):
            pen.text((place, top + height + 4), f"{value:.3g}", "black", font, anchor)
    pen = ImageDraw.Draw(sheet)
    for kind, left in ((False, gap), (True, gap + 110)):
        pen.rectangle((left, height + 2 * gap + 2, left + 14, height + 2 * gap + 16), colours[kind])
        pen.text((left + 20, height + 2 * gap), "anomalous" if kind else "normal", "black", font)
    return sheet
