"""The corruptions of CIFAR-10-C and MNIST-C by their definition, made of recon's own operators.

Hendrycks & Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations", ICLR 2019,
and Mu & Gilmer, "MNIST-C: a robustness benchmark for computer vision", 2019. Kinds and constants are theirs; draws come
from keys, and blurs and resampling have the borders and the precision of recon's operators: images are defined as, not
bit-equal to, the published ones. CIFAR-10-C's frost is left out, as it needs six photographs of frost.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from torch import Tensor

from recon import keyed
from recon.degradations.base import Degradation, Degraded, Identity, all_known, draw_whole
from recon.degradations.blur import KernelBlur
from recon.degradations.codec import JPEG
from recon.degradations.drawn import DottedLine, Edges, Stripe, Zigzag
from recon.degradations.geometry import Elastic, Rescale, Rotate, Shear, Translate
from recon.degradations.levels import Range, one_of, whole_ends
from recon.degradations.noise import GaussianNoise, PoissonNoise, SaltPepper
from recon.degradations.optics import GlassBlur, TrailBlur, ZoomBlur
from recon.degradations.resample import Pixelate
from recon.degradations.tone import Brightness, Contrast
from recon.degradations.weather import Fog, Snow, Spatter

ALL = "all"


class Kind(NamedTuple):
    """A corruption: the operator, and its constants at severities 1, 2, ….

    >>> KINDS["cifar10_c"]["gaussian_noise"].constants[4]
    (0.1,)
    """

    make: Callable[..., Degradation]
    constants: tuple[tuple[float, ...], ...]


def _defocus(radius: float, blur: float) -> Degradation:
    """A disk of whole pixels, smoothed by a Gaussian of three taps."""
    reach = math.floor(radius) + 1
    offset = np.arange(-reach, reach + 1)
    disk = (offset[:, None] ** 2 + offset**2 <= radius**2).astype(np.float64)
    taps = np.exp(-0.5 * (np.arange(-1, 2) / blur) ** 2)
    smooth = np.apply_along_axis(np.convolve, 0, disk, taps / taps.sum())[1:-1]
    return KernelBlur(np.apply_along_axis(np.convolve, 1, smooth, taps / taps.sum())[:, 1:-1])


def _glass(sigma: float, reach: float, rounds: float, chance: float) -> Degradation:
    return GlassBlur(sigma, int(reach), int(rounds), chance)


def _degrees(kind: Callable[[float], Degradation]) -> Callable[[float], Degradation]:
    return lambda radians: kind(math.degrees(radians))


def _one(*constants: float) -> tuple[tuple[float, ...], ...]:
    return tuple((constant,) for constant in constants)


KINDS: Mapping[str, Mapping[str, Kind]] = {
    "cifar10_c": {
        "gaussian_noise": Kind(GaussianNoise, _one(0.04, 0.06, 0.08, 0.09, 0.10)),
        "shot_noise": Kind(PoissonNoise, _one(500, 250, 100, 75, 50)),
        "impulse_noise": Kind(SaltPepper, _one(0.01, 0.02, 0.03, 0.05, 0.07)),
        # radius of the disk, sigma of its smoothing
        "defocus_blur": Kind(_defocus, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))),
        # sigma, reach, rounds, chance
        "glass_blur": Kind(
            _glass, ((0.05, 1, 1, 1.0), (0.25, 1, 1, 1.0), (0.4, 1, 1, 1.0), (0.25, 1, 2, 1.0), (0.4, 1, 2, 1.0))
        ),
        # sigma, reach
        "motion_blur": Kind(TrailBlur, ((1.0, 6), (1.5, 6), (2.0, 6), (2.0, 8), (2.5, 9))),
        # The ranges `arange(1, 1.06, 0.01)`, 1.11, 1.16, 1.21, 1.26 hold or lack their end as floats round.
        "zoom_blur": Kind(ZoomBlur, _one(1.06, 1.11, 1.15, 1.20, 1.25)),
        # amount, spread, size, threshold, reach, sigma, kept
        "snow": Kind(
            Snow,
            (
                (0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.95),
                (0.1, 0.2, 1.0, 0.5, 10, 4.0, 0.9),
                (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.9),
                (0.25, 0.3, 2.25, 0.6, 12, 6.0, 0.85),
                (0.3, 0.3, 1.25, 0.65, 14, 12.0, 0.8),
            ),
        ),
        # amount, decay
        "fog": Kind(Fog, ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))),
        "brightness": Kind(Brightness, _one(0.05, 0.1, 0.15, 0.2, 0.3)),
        "contrast": Kind(lambda factor: Contrast(factor, by_channel=True), _one(0.75, 0.5, 0.4, 0.3, 0.15)),
        # strength, smoothness, affine
        "elastic_transform": Kind(
            Elastic, ((0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))
        ),
        "pixelate": Kind(Pixelate, _one(0.95, 0.9, 0.85, 0.75, 0.65)),
        "jpeg_compression": Kind(lambda quality: JPEG(int(quality)), _one(80, 65, 58, 50, 40)),
    },
    "mnist_c": {
        "shot_noise": Kind(PoissonNoise, _one(3)),
        "impulse_noise": Kind(SaltPepper, _one(0.17)),
        "glass_blur": Kind(_glass, ((0.7, 1, 2, 0.5),)),
        "motion_blur": Kind(TrailBlur, ((3.0, 10),)),
        # radians
        "shear": Kind(_degrees(Shear), _one(0.4)),
        "scale": Kind(Rescale, _one(0.7)),
        "rotate": Kind(_degrees(Rotate), _one(0.4)),
        "brightness": Kind(Brightness, _one(0.5)),
        "translate": Kind(Translate, _one(3.0)),
        "stripe": Kind(Stripe, _one(0.25)),
        # amount, decay, extent
        "fog": Kind(lambda amount, decay, extent: Fog(amount, decay, int(extent)), ((3.0, 1.4, 256),)),
        # amount, threshold, size, edge
        "spatter": Kind(Spatter, ((0.65, 0.65, 1.0, 1.5),)),
        "dotted_line": Kind(DottedLine, _one(1.0)),
        "zigzag": Kind(Zigzag, _one(1.0)),
        "canny_edges": Kind(Edges, _one(1.0)),
    },
}


def severities(set_: str) -> int:
    """Return how many severities above 0 each corruption of a set has.

    >>> severities("cifar10_c"), severities("mnist_c")
    (5, 1)
    """
    return len(next(iter(KINDS[set_].values())).constants)


class Corruption(Degradation):
    """A corruption of a set at its published constants; values are clipped to [0,1] and rounded to 8 bits, as stored.

    The severity is that of the set: 0 leaves the image unchanged.

    >>> Corruption("cifar10_c", "fog", 0)(clean, keys).image.equal(clean)
    True

    Args:
        set: "cifar10_c" or "mnist_c".
        kind: one of `KINDS[set]`, or "all" for one that each image draws.
        severity: whole numbers from 0 to 5, for MNIST-C 0 or 1; of a range each is as likely.
    """

    def __init__(self, set: str, kind: str, severity: Range) -> None:
        kinds = KINDS[one_of("set", set, KINDS)]
        self.set, self.kind = set, one_of("kind", kind, [*kinds, ALL])
        self.level = whole_ends("severity", severity, 0, severities(set))
        low, high = map(int, self.level)
        chosen = list(kinds) if kind == ALL else [kind]
        self._names = chosen
        self.operators = {
            level: [kinds[name].make(*kinds[name].constants[level - 1]) if level else Identity() for name in chosen]
            for level in range(low, high + 1)
        }

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Corrupt each image by its kind and severity, see `Degradation`."""
        level = draw_whole(self.level, keys, "severity")
        which = keyed.integers(keyed.fold(keys, "kind"), len(self._names))
        image = clean
        for number, operators in self.operators.items():
            for index, (name, operator) in enumerate(zip(self._names, operators, strict=True)):
                mine = ((level == number) & (which == index)).nonzero().squeeze(1)
                if number and len(mine):
                    made = operator(clean.index_select(0, mine), keyed.fold(keys.index_select(0, mine), name)).image
                    image = image.index_copy(0, mine, made.clamp(0, 1).mul(255).round().div(255))
        return Degraded(image, all_known(clean), level.float())

    def check_shape(self, shape: tuple[int, int, int]) -> None:
        """Check each operator, see `Degradation`."""
        for operators in self.operators.values():
            for operator in operators:
                operator.check_shape(shape)
