"""A classifier explained on test images: the maps of each method, and how they fare in the checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from recon import keyed
from recon.explain import attribution, checks
from recon.explain.attribution import Score
from recon.modules.base import Module
from recon.pair import Pair

METHODS = ("saliency", "smoothgrad", "integrated_gradients", "grad_cam", "occlusion")


@dataclass
class Explained:
    """A map of each image by one method, and the checks.

    Attributes:
        method: one of `METHODS`.
        maps: (B,H,W), more is more.
        figures: by name; what is not known is left out.
    """

    method: str
    maps: Tensor
    figures: dict[str, float]


class Explainer:
    """A classifier and images whose predicted classes are to be explained.

    Args:
        module: in evaluation mode.
        pair: its images.
        layer: for Grad-CAM, a name, or None for the last with more than one pixel.
    """

    def __init__(self, module: Module, pair: Pair, layer: str | None = None) -> None:
        self.module, self.pair, self.image = module, pair, pair.degraded
        with torch.no_grad():
            self.target = self._scores(self.image).argmax(1)
        found = attribution.layers(module.active_net, self.image[:1], self._scores)
        self.layer_name: str | None = None
        self._layer: nn.Module | None = None
        if layer is not None or any(min(output.shape[2:]) > 1 for _, output in found.values()):
            self.layer_name, self._layer, _ = attribution.choose_layer(found, layer)
        self.keys = keyed.keys(keyed.EVALUATION_SEED, "explain", 0, pair.index)
        # Grey of the image itself: black is a natural value of a digit.
        self.baseline = self.image.mean((2, 3), keepdim=True).expand_as(self.image)

    def _scores(self, image: Tensor) -> Tensor:
        return self.module.predict(self.pair._replace(degraded=image)).float()

    def score(self, image: Tensor) -> Tensor:
        """Return the score of each image's predicted class, (B,)."""
        return self._scores(image).gather(1, self.target.unsqueeze(1)).squeeze(1)

    def probability(self, image: Tensor) -> Tensor:
        """Return its probability, (B,)."""
        return self._scores(image).softmax(1).gather(1, self.target.unsqueeze(1)).squeeze(1)

    def maps(self, method: str) -> Tensor:
        """Explain all images by a method: (B,H,W)."""
        score: Score = self.score
        if method == "grad_cam":
            if self._layer is None:
                attribution.choose_layer({}, None)
            assert self._layer is not None
            return attribution.grad_cam(score, self.image, self._layer)
        makers: dict[str, Callable[[], Tensor]] = {
            "saliency": lambda: attribution.saliency(score, self.image),
            "smoothgrad": lambda: attribution.smoothgrad(score, self.image, self.keys),
            "integrated_gradients": lambda: attribution.integrated_gradients(score, self.image, self.baseline),
            "occlusion": lambda: attribution.occlusion(score, self.image),
        }
        return makers[method]()

    def explain(self, methods: Sequence[str], done: Callable[[], Any]) -> list[Explained]:
        """Explain by each method, and check the maps; `done` is called after each."""
        found = []
        chance = keyed.uniform(keyed.fold(self.keys, "chance"), tuple(self.image.shape[2:]))
        by_chance = checks.deletion(self.probability, self.image, chance, self.baseline, self.keys)
        for method in methods:
            maps, figures = self.maps(method), dict[str, float]()
            if method == "integrated_gradients":
                missed = attribution.completeness(self.score, self.image, self.baseline, maps)
                figures["completeness_error"] = float(missed.median())
            with checks.randomised(self.module.active_net):
                alike = checks.likeness(maps, self.maps(method))
            known = alike[alike == alike]
            if len(known):
                figures["likeness_randomised"] = float(known.mean())
            curves = checks.deletion(self.probability, self.image, maps, self.baseline, self.keys)
            if len(self.image) > 1:
                for name, mine, random in zip(("deletion", "insertion"), curves, by_chance, strict=True):
                    gain = checks.gain(mine, random)
                    figures |= {name: gain.area, f"{name}_by_chance": gain.by_chance,
                                f"{name}_low": gain.low, f"{name}_high": gain.high}  # fmt: skip
            found.append(Explained(method, maps.detach(), figures))
            done()
        return found


def words(found: Explained) -> str:
    """Say how the maps of a method fare."""
    figures, said = found.figures, []
    if (missed := figures.get("completeness_error")) is not None:
        said.append(f"sums miss the change of the score by {100 * missed:.2g} % (median)")
    if (alike := figures.get("likeness_randomised")) is not None:
        said.append(f"rank correlation with the maps of randomised weights {alike:.2f}")
    for name, better in (("deletion", -1), ("insertion", 1)):
        if name in figures:
            low, high = figures[f"{name}_low"], figures[f"{name}_high"]
            verdict = "no better than chance"
            if min(low * better, high * better) > 0:
                verdict = "better than chance"
            elif max(low * better, high * better) < 0:
                verdict = "worse than chance"
            said.append(f"{name} {figures[name]:.3f} against {figures[f'{name}_by_chance']:.3f} in random order ("
                        f"difference {low:.3f} to {high:.3f}: {verdict})")  # fmt: skip
    return f"{found.method}: {'; '.join(said)}."
