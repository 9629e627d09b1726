"""Images from noise: sheets, strips from one image to another, grids of class and style, walks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from recon import keyed
from recon.console import tracked
from recon.data.loader import Loader
from recon.errors import InputError
from recon.metrics.generated import Found, measured
from recon.modules.base import Module
from recon.nets.features import with_features

_BATCH = 64
_GAP = 2  # pixels between the images of a sheet
_LEAST = 56  # pixels: smaller images are shown larger by a whole number


class Generator:
    """A model that generates, with the labels that are wanted.

    The noise of an image depends on the seed and its number alone, so that the same images come out in any batches.

    Args:
        module: of `kind` "generate", a variational autoencoder, or an autoencoder with a mixture on its codes: has
            `latents` and `from_latents`, and `between(start, end, share)` where that is not `slerp`.
        labels: the classes, in turn; None for all of them.
        truncation: what the noise is multiplied by: below 1 images become more alike and more usual.
        seed: of the noise.

    Raises:
        InputError: the model generates nothing, a label that it does not know, or a number out of its range.
    """

    def __init__(self, module: Any, labels: Sequence[int] | None, truncation: float, seed: int) -> None:
        if not hasattr(module, "from_latents"):
            raise InputError(
                f"run: {type(module).__name__} generates no images; choose a run of model=gan|vae|autoencoder"
            )
        classes = int(module.facts["num_classes"])
        if wrong := [label for label in labels or () if not 0 <= label < max(1, classes)]:
            known = f"0 to {classes - 1}" if classes else "none, as its images have no labels"
            raise InputError(f"labels: {wrong[0]} is no class of this model; it has {known}")
        self.module: Any = module
        self._between = getattr(module, "between", slerp)
        self.labels = list(labels) if labels else list(range(max(1, classes)))
        self.truncation, self.seed = truncation, seed

    def latents(self, count: int, stream: str = "generate") -> Tensor:
        """Draw the noise of the first `count` images: (N,D)."""
        index = torch.arange(count, device=self.module.device)
        noise: Tensor = self.module.latents(keyed.keys(self.seed, stream, 0, index))
        return noise * self.truncation

    def label_of(self, count: int) -> Tensor:
        """Return the labels of the first `count` images, in turn: (N,) int64."""
        return torch.tensor(self.labels).repeat(-(-count // len(self.labels)))[:count].to(self.module.device)

    def images(self, z: Tensor, label: Tensor) -> Tensor:
        """Make images of noise (N,D) and labels (N,): (N,C,H,W) in [0,1], on the CPU."""
        with torch.inference_mode():
            made = [
                self.module.from_latents(*part).float().cpu()
                for part in tracked([*zip(z.split(_BATCH), label.split(_BATCH), strict=True)], "generate")
            ]
        return torch.cat(made).clamp(0, 1)

    def samples(self, count: int) -> Tensor:
        """Make the first `count` images: (N,C,H,W)."""
        return self.images(self.latents(count), self.label_of(count))

    def strips(self, count: int, steps: int = 10) -> Tensor:
        """Go from one image to another in each of `count` rows: (count·steps,C,H,W)."""
        start, end = self.latents(2 * count).chunk(2)
        share = torch.linspace(0, 1, steps, device=start.device)
        z = self._between(start[:, None], end[:, None], share[None, :, None]).flatten(0, 1)
        return self.images(z, self.label_of(count).repeat_interleave(steps))

    def grid(self, styles: int) -> Tensor:
        """Make each class, a column, of each of `styles` noises, a row: (styles·classes,C,H,W)."""
        columns = len(self.labels)
        return self.images(self.latents(styles).repeat_interleave(columns, 0), self.label_of(columns).repeat(styles))

    def walk(self, count: int, steps: int) -> Iterator[Tensor]:
        """Yield the frames (count,C,H,W) of a walk through the noise that ends where it began."""
        stops = [self.latents(count, f"stop {number}") for number in range(4)]
        label = self.label_of(count)
        for number, start in enumerate(stops):
            end = stops[(number + 1) % len(stops)]
            for step in range(steps):
                yield self.images(self._between(start, end, torch.tensor(step / steps, device=start.device)), label)


def compared(maker: Generator, judge: Module, loader: Loader[Any], most: int = 10_000) -> dict[str, Found]:
    """Measure generated images against those that a loader serves, with their labels, as a set.

    Args:
        maker: makes as many.
        judge: a classifier, in whose features before the last layer they are compared.
        loader: of test images.
        most: images.
    """
    real: list[Tensor] = []
    fake: list[Tensor] = []
    count = 0
    judge = judge.to(maker.module.device)
    with torch.inference_mode():
        for pair in loader:
            index, label = pair.index.to(judge.device), pair.label.to(judge.device)
            keys = keyed.keys(maker.seed, "generate", 0, index)
            made = maker.module.from_latents(maker.module.latents(keys) * maker.truncation, label).float().clamp(0, 1)
            for images, features in ((pair.clean.to(judge.device), real), (made, fake)):
                features.append(with_features(judge, images)[1].cpu())
            count += len(index)
            if count >= most:
                break
    return measured(torch.cat(real)[:most], torch.cat(fake)[:most])


def slerp(start: Tensor, end: Tensor, share: Tensor) -> Tensor:
    """Go along the great circle from one noise to another, so that its length stays usual (White 2016).

    >>> slerp(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), torch.tensor(0.5))
    tensor([0.7071, 0.7071])

    Args:
        start: (...,D).
        end: (...,D).
        share: how far, in [0,1], that broadcasts with them.
    """
    a, b = (torch.nn.functional.normalize(z, dim=-1) for z in (start, end))
    angle = (a * b).sum(-1, keepdim=True).clamp(-1, 1).acos()
    lengths = torch.linalg.vector_norm(start, dim=-1, keepdim=True), torch.linalg.vector_norm(end, dim=-1, keepdim=True)
    direction = torch.where(
        angle < 1e-4,
        a.lerp(b, share),
        (a * ((1 - share) * angle).sin() + b * (share * angle).sin()) / angle.sin().clamp_min(1e-6),
    )
    walked: Tensor = direction * (lengths[0] * (1 - share) + lengths[1] * share)
    return walked


def sheet(images: Tensor, columns: int | None = None) -> Image.Image:
    """Lay images (N,C,H,W) in [0,1] side by side, nearly in a square or in so many columns, small ones enlarged."""
    count, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    zoom = max(1, -(-_LEAST // max(height, width)))
    pixels = (images * 255).round().to(torch.uint8).movedim(1, 3).numpy().repeat(zoom, 1).repeat(zoom, 2)
    cell = zoom * height + _GAP, zoom * width + _GAP
    rows = -(-count // columns)
    canvas = np.full((rows * cell[0] - _GAP, columns * cell[1] - _GAP, channels), 255, np.uint8)
    for index, tile in enumerate(pixels):
        top, left = index // columns * cell[0], index % columns * cell[1]
        canvas[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return Image.fromarray(canvas[..., 0] if channels == 1 else canvas)
