"""Augmentation of what a discriminator sees, differentiable, keyed, and as strong as it must be.

Zhao, Liu, Lin, Zhu & Han, "Differentiable augmentation for data-efficient GAN training", NeurIPS 2020; Karras, Aittala,
Hellsten, Laine, Lehtinen & Aila, "Training generative adversarial networks with limited data", NeurIPS 2020 (ADA).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from recon import keyed
from recon.errors import InputError
from recon.ranges import require_number, require_whole

_BATCHES = 4  # between two changes of the probability
KINDS = ("flip", "shift", "brightness", "contrast", "cutout")


class Augmentation:
    """Change images that a discriminator sees, clean and generated ones alike, each kind with a probability.

    Args:
        kinds: of `KINDS`; none switches it off.
        probability: of each kind for each image, in [0,1]; with `target` above 0 that at the start.
        target: the share of clean images with a positive logit, less that with a negative one, that the probability is
            led to (ADA); 0 leaves the probability as it is.
        images: how many images it takes for the probability to rise from 0 to 1.

    Attributes:
        probability: the current one.

    Raises:
        InputError: a kind that there is not, or a number out of its range.
    """

    def __init__(self, kinds: Sequence[str], probability: float, target: float, images: int) -> None:
        is_list = isinstance(kinds, list | tuple)
        if not is_list or (wrong := [kind for kind in kinds if kind not in KINDS]):
            found = wrong[0] if is_list else kinds
            raise InputError(f"augment: {found!r} is no list of kinds; give some of [{','.join(KINDS)}]")
        require_number("augment_probability", probability, 0, 1)
        require_number("augment_target", target, 0, 1)
        require_whole("augment_images", images, 1, 1 << 40)
        self.kinds, self.probability, self.target, self.images = tuple(kinds), probability, target, images
        self._signs: list[Tensor] = []
        self._seen = 0

    def __call__(self, image: Tensor, keys: Tensor) -> Tensor:
        """Change images (B,C,H,W) in [0,1] by their keys (B,); gradients flow through."""
        if not self.kinds or not self.probability:
            return image
        for kind in self.kinds:
            of_kind = keyed.fold(keys, kind)
            chosen = keyed.uniform(keyed.fold(of_kind, "chosen")) < self.probability
            changed = _CHANGES[kind](image, of_kind)
            image = torch.where(chosen.view(-1, 1, 1, 1), changed, image)
        return image

    def watch(self, real: Tensor) -> None:
        """Note the logits (B,) of clean images, less those of generated ones where a loss pairs them."""
        if not self.target or not self.kinds:
            return
        self._signs.append(real.detach().sign().mean())
        self._seen += len(real)
        if len(self._signs) == _BATCHES:
            rate = float(torch.stack(self._signs).mean())
            step = self._seen / self.images * (1 if rate > self.target else -1)
            self.probability = min(1.0, max(0.0, self.probability + step))
            self._signs, self._seen = [], 0

    def state_dict(self) -> dict[str, object]:
        """Return what a checkpoint must hold."""
        return {"probability": self.probability, "signs": [float(sign) for sign in self._signs], "seen": self._seen}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Take up a state of `state_dict`."""
        self.probability = float(state["probability"])  # type: ignore[arg-type]
        self._signs = [torch.tensor(sign) for sign in state["signs"]]  # type: ignore[attr-defined]
        self._seen = int(state["seen"])  # type: ignore[call-overload]


def _flip(image: Tensor, keys: Tensor) -> Tensor:
    return image.flip(3)


def _shift(image: Tensor, keys: Tensor) -> Tensor:
    """Move by up to an eighth of each side; what comes in is black."""
    height, width = image.shape[2:]
    most = max(1, height // 8), max(1, width // 8)
    down, across = (keyed.integers(keyed.fold(keys, name), 2 * reach + 1) - reach
                    for name, reach in zip(("down", "across"), most, strict=True))  # fmt: skip
    padded = F.pad(image, (most[1], most[1], most[0], most[0]))
    rows = (torch.arange(height, device=image.device) + most[0] - down[:, None]).view(-1, 1, height, 1)
    columns = (torch.arange(width, device=image.device) + most[1] - across[:, None]).view(-1, 1, 1, width)
    channels = image.shape[1]
    taken = padded.gather(2, rows.expand(-1, channels, -1, padded.shape[3]))
    return taken.gather(3, columns.expand(-1, channels, height, -1))


def _brightness(image: Tensor, keys: Tensor) -> Tensor:
    return image + (keyed.uniform(keys) - 0.5).view(-1, 1, 1, 1)


def _contrast(image: Tensor, keys: Tensor) -> Tensor:
    mean = image.mean((1, 2, 3), keepdim=True)
    return mean + (image - mean) * (0.5 + keyed.uniform(keys)).view(-1, 1, 1, 1)


def _cutout(image: Tensor, keys: Tensor) -> Tensor:
    """Blacken a box of half of each side, its middle anywhere."""
    masks = []
    for dim, name in ((2, "row"), (3, "column")):
        side = image.shape[dim]
        middle = keyed.integers(keyed.fold(keys, name), side).view(-1, 1)
        away = (torch.arange(side, device=image.device) - middle).abs()
        masks.append(away <= side // 4)
    box = masks[0][:, None, :, None] & masks[1][:, None, None, :]
    return image * ~box


_CHANGES = {"flip": _flip, "shift": _shift, "brightness": _brightness, "contrast": _contrast, "cutout": _cutout}
