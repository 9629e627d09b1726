"""What modules that generate share: how good their images are as a set, and whether they are copies."""

from __future__ import annotations

import math
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from recon import keyed
from recon.console import say
from recon.measures import Measure, Role
from recon.metrics.copying import copying
from recon.metrics.distribution import frechet
from recon.metrics.generated import Found, halves, measured, values
from recon.metrics.per_image import PerImage
from recon.modules.base import Module
from recon.modules.outcome import Artifact
from recon.pair import Pair
from recon.runs import draw
from recon.training.options import recognised

# How many images are compared: the first of the test set, and fewer at each validation.
_MOST = {"test": 10_000, "val": 1000}
_SHOWN = 8  # pairs of a generated image and the training image nearest to it
_SET = {
    "fd": ("Fréchet distance", -1, "Fréchet distance of Gaussians"),
    "kd": ("kernel distance", -1, "squared maximum mean discrepancy by the kernel (x·y/D + 1)³, unbiased, the mean "
           "over ten blocks of the images; it may be negative"),
    "precision": ("precision of the set", 1, "share of generated images within the reach of a real one (5 neighbours)"),
    "recall": ("recall of the set", 1, "share of real images within the reach of a generated one (5 neighbours)"),
    "density": ("density", 1, "in the reach of how many real images a generated one lies, divided by 5"),
    "coverage": ("coverage", 1, "share of real images with a generated one in their reach (5 neighbours)"),
    "vendi": ("Vendi score", 0, "how many different images there are in effect, by the cosine of their features"),
}  # fmt: skip


class GeneratingModule(Module):
    """A module that makes images from noise and labels; a subclass says how.

    With a judge, sets of generated images are compared with as many real ones in its features. The name of such a
    number says in whose, and at how many images, as it depends on both: "fd_mnist@10k".
    """

    kind = "generate"
    monitor: str | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.found: dict[str, Found] = {}  # of the latest test, by the names of its measures
        self._own_rows: dict[str, Measure] = {}
        self._closest: Image | None = None

    def latents(self, keys: Tensor) -> Tensor:
        """Draw the noise of an image for each key: (B,) -> (B,...)."""
        raise NotImplementedError

    def from_latents(self, z: Tensor, label: Tensor) -> Tensor:
        """Make images of noise (B,...) and labels (B,) int64: (B,C,H,W)."""
        raise NotImplementedError

    def generate(self, keys: Tensor, label: Tensor) -> Tensor:
        """Make one image for each key and label: (B,) int64 each -> (B,C,H,W)."""
        return self.from_latents(self.latents(keys), label)

    def predict(self, pair: Pair) -> Tensor:
        """Generate an image of each label."""
        return self.generate(self.keys(pair, "sample"), pair.label)

    def pictures(self, pair: Pair) -> dict[str, Tensor]:
        """Show samples beside clean images of the same label."""
        samples = {f"sample {n}": self.generate(self.keys(pair, f"sample {n}"), pair.label) for n in range(1, 6)}
        return {"clean": pair.clean, **samples}

    def looked_at(self, fake: Tensor, pair: Pair) -> dict[str, Tensor]:
        """Let the judge, if there is one, look at generated images (B,C,H,W) beside the clean ones."""
        if self.options.judge is None:
            return {}
        scores, features = self.options.looked_at(fake)
        columns = {"label": pair.label, "fake": features, "real": self.options.looked_at(pair.clean)[1]}
        return {**recognised(scores, pair.label), **columns}

    @property
    def rows(self) -> dict[str, Measure]:
        """The table of measures, with those of the latest sets."""
        return {**super().rows, **self._own_rows}

    def conclude(self, columns: dict[str, Tensor]) -> dict[str, float]:
        """Measure the generated images as a set: their classes, and how they compare with the real ones."""
        seen = columns.get("recognised_as")
        if seen is None or not len(seen):
            return {}
        counts = torch.bincount(seen[seen >= 0].long())
        split = "test" if self.trainer.testing else "val"
        real, fake = (columns[name][: _MOST[split]] for name in ("real", "fake"))
        summary = {"classes": float((counts > 0).sum()), "class_entropy": _bits(counts)}
        if len(real) < 4 or not fake.isfinite().all():
            return summary
        if split == "test" and len(fake) < fake.shape[1]:
            need = f"the judge's {fake.shape[1]} features need more than {len(fake)} images"
            say(f"warning: {need}: distances are too large")
        task, judge = self.options.judge_name()
        suffix = f"{task}@{_in_thousands(len(fake))}"
        of_test = measured(real, fake) if split == "test" else {}
        found = {name: each.value for name, each in of_test.items()} or values(real, fake)
        where = f"in the {fake.shape[1]} features before the last layer of the classifier {judge}"
        count = f"{len(fake)} generated images against {len(real)} test images"
        named = {name: f"{name}_{suffix}" for name in found}
        self._own_rows |= {name: _row(name, f"; {where}, {count}") for name in named.values()}
        summary |= {named[name]: value for name, value in found.items()}
        if of_test:
            self.found = {named[name]: each for name, each in of_test.items()} | _of_classes(columns)
            summary["copying_p"] = self._copying(columns)
        return summary

    def artifacts(self, columns: dict[str, Tensor]) -> dict[str, Artifact]:
        """The measures of the set with their intervals and floors, and the pairs that may be copies."""
        rows = [{"measure": name, **vars(found)} for name, found in self.found.items()]
        pictures = {} if self._closest is None else {"images/closest": self._closest}
        return {**({"generated": rows} if rows else {}), **pictures}

    def _copying(self, columns: dict[str, Tensor]) -> float:
        """Test for copies of training images, and draw the pairs that are nearest."""
        loader, table = self.trainer.datamodule.training_images(), PerImage()  # type: ignore[attr-defined]
        for pair in loader:
            table.update(pair.index, {"features": self.options.looked_at(pair.clean)[1]})
        train = table.compute()
        result = copying(train["features"], columns["real"], columns["fake"])
        if loader.is_indexed:
            shown, near = result.closest[:_SHOWN], train["index"][result.training[:_SHOWN]]
            index, label = (columns[name][shown].long().to(self.device) for name in ("index", "label"))
            images = self.generate(keyed.keys(keyed.EVALUATION_SEED, "latent", 0, index), label)
            arrays = {"index": index.cpu().numpy(), "generated": draw.pixels(images)}
            self._closest = draw.grid(
                {**arrays, "nearest training image": draw.pixels(loader.look_at(near).pair.clean)}
            )
        return result.p


def _of_classes(columns: dict[str, Tensor]) -> dict[str, Found]:
    """Return the Fréchet distance of each class with at least four images, and its floor; without intervals."""
    found = {}
    for label in columns["label"].unique().long().tolist():
        real, fake = (columns[name][columns["label"] == label] for name in ("real", "fake"))
        if label >= 0 and len(real) >= 4:
            floor = float(frechet(*halves(real, torch.Generator().manual_seed(0))))
            found[f"fd of class {label}"] = Found(float(frechet(real, fake)), math.nan, math.nan, floor)
    return found


def _row(name: str, how: str) -> Measure:
    kind, _, of = name.partition("_")
    label, better, text = _SET[kind]
    role: Role = "quality" if better else "other"
    return Measure(name, f"{label}, {of}", better, "", None, role, text + how, kind="generate")


def _bits(counts: Tensor) -> float:
    """Return the entropy of the classes by their counts, in bits."""
    share = counts.double() / counts.sum().clamp_min(1)
    return float(torch.special.entr(share).sum() / torch.tensor(2.0).log())


def _in_thousands(count: int) -> str:
    """Write a number of images: 10k for 10,000, and 360 for that."""
    return f"{count // 1000}k" if count % 1000 == 0 else str(count)
