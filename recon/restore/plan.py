"""What is done to a picture: it is looked at, and the weights that fit are chosen, or none."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch

from recon.errors import InputError
from recon.restore.compression import hidden_quality
from recon.restore.gain import Gain, compression_gain, denoising_gain
from recon.restore.holes import hole_of_colour, hole_of_mask, scratches
from recon.restore.mend import Settings, as_tensor, planes_of, runner
from recon.restore.picture import Picture
from recon.restore.weights import Weights, load_weights, names, require_restorer

_COMPRESSED = 92  # a JPEG of higher quality has no damage that a person sees
_CLEAN = 1 / 255  # noise of less is that of rounding to 8 bits, and of what a photograph shows


@dataclass(frozen=True)
class Wishes:
    """What a person asked for.

    Attributes:
        weights: a name, or a file; None chooses for each picture.
        run: the folder of a run, or None.
        mask, mask_resize, mask_color, scratches: which pixels are to be filled, see `recon.restore.holes`.
        scale: 2 for twice the size.
        min_gain: dB; a picture that is expected to gain less is left as it is, unless `force`.
        max_pixels: of a mask.
        settings: see `recon.restore.mend.Settings`.
    """

    weights: str | None = None
    run: Path | None = None
    mask: Path | None = None
    mask_resize: bool = False
    mask_color: str | None = None
    scratches: bool = False
    scale: int = 1
    min_gain: float = 0.1
    force: bool = False
    max_pixels: int = 200_000_000
    settings: Settings = field(default_factory=Settings)

    @property
    def fills(self) -> bool:
        """Whether pixels are to be filled."""
        return self.mask is not None or self.mask_color is not None or self.scratches


@dataclass(frozen=True)
class Plan:
    """What is done to one picture.

    Attributes:
        weights: what restores it, or None where it is left as it is.
        seen: what was seen, as a clause.
        why: what is done, or why nothing is, as a clause.
        hole: (H,W) bool, the pixels to be filled, or None.
        quality: of the JPEG that the picture is or was, or None.
        gain: what is expected; None where that cannot be estimated.
    """

    weights: Weights | None
    seen: str
    why: str
    hole: np.ndarray | None = None
    quality: int | None = None
    gain: Gain | None = None


def plan(picture: Picture, wishes: Wishes) -> Plan:
    """Look at a picture and choose; raises InputError where the wishes do not fit it."""
    quality = _quality(picture)
    was = "" if quality is None else f"JPEG of quality {quality}"
    if wishes.fills:
        return _to_fill(picture, wishes, was)
    own = _own(wishes)
    if wishes.scale > 1:
        weights = own or load_weights("sr_x2")
        if weights.about.facts["scale"] != wishes.scale:
            raise InputError(f"scale: {weights.name} makes pictures {weights.about.facts['scale']} times as large; "
                             f"give scale={weights.about.facts['scale']}")  # fmt: skip
        return Plan(weights, was, f"{weights.name} makes it {wishes.scale} times as large", quality=quality)
    if own:
        judged = [(own, _gain(picture, own, quality, wishes.settings))]
    else:
        judged = [_judged(picture, weights, quality, wishes) for weights in _candidates(picture, quality)]
    weights, gain = max(judged, key=lambda pair: -1.0 if pair[1] is None else pair[1].decibels)
    seen = ", ".join(filter(None, (was, _noise(gain))))
    if weights.about.facts["scale"] > 1:
        return Plan(weights, seen, f"{weights.name} makes it larger", quality=quality)
    if gain is None:
        return Plan(weights, seen, f"{weights.name}; its gain cannot be estimated", quality=quality)
    expected = f"{gain.decibels:+.1f} ± {gain.error:.1f} dB expected"
    is_clean = weights.about.purpose == "denoise" and max(gain.sigma, default=0.0) < _CLEAN
    if (is_clean or gain.decibels < wishes.min_gain) and not wishes.force:
        why = "as clean as photographs are" if is_clean else f"{expected}, below min_gain={wishes.min_gain:g}"
        return Plan(None, seen, f"left as it is: {why}", quality=quality, gain=gain)
    return Plan(weights, seen, f"{weights.name}, {expected}", quality=quality, gain=gain)


def _to_fill(picture: Picture, wishes: Wishes, was: str) -> Plan:
    shape = picture.values.shape[:2]
    hole = np.zeros(shape, bool)
    if wishes.mask is not None:
        hole |= hole_of_mask(wishes.mask, shape, wishes.mask_resize, wishes.max_pixels)
    if wishes.mask_color is not None:
        hole |= hole_of_colour(picture, wishes.mask_color)
    if wishes.scratches:
        hole |= scratches(picture)
    share = f"{100 * hole.mean():.2g} % of its pixels"
    if not hole.any():
        return Plan(None, was, "left as it is: nothing is marked to be filled")
    if hole.all():
        raise InputError("mask: all pixels are marked to be filled, and nothing is known; mark fewer")
    weights = _own(wishes) or named("inpaint_photo")
    if weights.about.purpose != "inpaint":
        raise InputError(f"weights: {weights.name} fill no holes; choose weights of model=inpainting")
    return Plan(weights, was, f"{weights.name} fills {share}", hole)


def _quality(picture: Picture) -> int | None:
    """Return the lowest quality at which a picture was compressed to JPEG, as far as file and pixels show."""
    values = picture.values
    if picture.white != 255 or values.shape[2] == 4:
        return picture.quality
    luma = (
        values[..., 0] if values.shape[2] == 1 else np.rint(values @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    )
    found = [quality for quality in (picture.quality, hidden_quality(luma)) if quality is not None]
    return min(found, default=None)


def _candidates(picture: Picture, quality: int | None) -> list[Weights]:
    """Return the weights that may fit; of a colour picture those for grey ones where there are no others."""
    kinds = ["gray"] if picture.values.shape[2] == 1 else ["color", "gray"]
    wanted = ["denoise", *(["jpeg"] if quality is not None and quality <= _COMPRESSED else [])]
    chosen = (next((f"{what}_{kind}" for kind in kinds if f"{what}_{kind}" in names()), None) for what in wanted)
    return [named(name) for name in chosen if name is not None] or [named(f"denoise_{kinds[0]}")]


def _judged(picture: Picture, weights: Weights, quality: int | None, wishes: Wishes) -> tuple[Weights, Gain | None]:
    """Return weights with what they gain; those for grey where they see no noise in what colour ones take for it."""
    if weights.name == "denoise_color":  # it takes fine detail and the seams of colours for noise
        sober = _gain(picture, named("denoise_gray"), quality, wishes.settings)
        if sober is not None and (max(sober.sigma, default=0.0) < _CLEAN or sober.decibels < wishes.min_gain):
            return named("denoise_gray"), sober
    return weights, _gain(picture, weights, quality, wishes.settings)


def _own(wishes: Wishes) -> Weights | None:
    if wishes.run is not None:
        return _of_run(wishes.run)
    return None if wishes.weights is None else named(wishes.weights)


def run_folder(run: str | int, key: str = "run") -> Path:
    """Return the run folder that a key names; raises InputError where it names none."""
    from recon.report.choose import choose

    path = Path(str(run)).expanduser()
    return path if path.is_dir() else choose(key, str(run))


@cache
def named(name: str) -> Weights:
    """Load weights once."""
    return require_restorer(load_weights(name))


@cache
def _of_run(folder: Path) -> Weights:
    from recon.restore.of_run import weights_of_run

    return weights_of_run(folder)


def _gain(picture: Picture, weights: Weights, quality: int | None, settings: Settings) -> Gain | None:
    """Estimate what weights gain on a picture; None for damage of which nothing is known."""
    net = runner(weights, settings)
    image = as_tensor(picture)
    with torch.inference_mode():
        if weights.about.purpose == "denoise":
            planes = planes_of(image, weights.about.facts["channels"])
            return denoising_gain(planes[0], net)
        if weights.about.purpose == "jpeg":
            planes = planes_of(image, weights.about.facts["channels"])
            return Gain(0.0, 0.0) if quality is None else compression_gain(planes[0], quality, net)
    return None


def _noise(gain: Gain | None) -> str:
    if gain is None or not gain.sigma:
        return ""
    levels = [255 * level for level in gain.sigma]
    if max(levels) - min(levels) < 0.2 * max(levels) + 0.1:
        return f"noise of sigma {sum(levels) / len(levels):.1f} of 255"
    return f"noise of sigma {', '.join(f'{level:.1f}' for level in levels)} of 255 (red, green, blue)"
