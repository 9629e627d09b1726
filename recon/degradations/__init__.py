"""Operators that damage clean images by key; plain torch, so `from recon import degradations` serves a notebook."""

from recon.degradations.base import Chain, Degradation, Degraded, Identity, OneOf, Range, Sometimes
from recon.degradations.blur import GaussianBlur
from recon.degradations.missing import Missing, MissingBox, MissingHalf, MissingPixels, MissingStrokes
from recon.degradations.noise import GaussianNoise, SaltPepper

__all__ = [
    "Chain",
    "Degradation",
    "Degraded",
    "GaussianBlur",
    "GaussianNoise",
    "Identity",
    "Missing",
    "MissingBox",
    "MissingHalf",
    "MissingPixels",
    "MissingStrokes",
    "OneOf",
    "Range",
    "SaltPepper",
    "Sometimes",
]
