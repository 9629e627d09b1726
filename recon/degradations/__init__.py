"""Operators that damage clean images by key; plain torch, so `from recon import degradations` works in a notebook.

All raise InputError, which names the parameter, where one is out of its range. In the examples, `clean` are two grey
images of 4×4 pixels that hold a ramp from 0 to 1, `keys` are those of two samples, and `mask_file` is the path of an
image whose left half is white.
"""

from recon.degradations.base import Chain, Degradation, Degraded, Identity, OneOf, Sometimes
from recon.degradations.blur import BoxBlur, DefocusBlur, GaussianBlur, KernelBlur, MotionBlur
from recon.degradations.codec import JPEG, WebP
from recon.degradations.corruptions import Corruption
from recon.degradations.drawn import DottedLine, Edges, Stripe, Zigzag
from recon.degradations.file import FromFiles
from recon.degradations.geometry import Elastic, Rescale, Rotate, Shear, Translate
from recon.degradations.levels import Range
from recon.degradations.missing import (
    Missing,
    MissingBox,
    MissingFile,
    MissingGrid,
    MissingHalf,
    MissingPixels,
    MissingStrokes,
    MissingText,
)
from recon.degradations.noise import GaussianNoise, PoissonNoise, SaltPepper, SpeckleNoise, UniformNoise
from recon.degradations.optics import GlassBlur, TrailBlur, ZoomBlur
from recon.degradations.resample import Downsample, Pixelate
from recon.degradations.tone import Brightness, Contrast, Decolourise, LowLight, Quantise
from recon.degradations.weather import Fog, Snow, Spatter
from recon.filters.resize import resize

__all__ = [
    "JPEG", "BoxBlur", "Brightness", "Chain", "Contrast", "Corruption", "Decolourise", "DefocusBlur", "Degradation",
    "Degraded", "DottedLine", "Downsample", "Edges", "Elastic", "Fog", "FromFiles", "GaussianBlur", "GaussianNoise",
    "GlassBlur", "Identity", "KernelBlur", "LowLight", "Missing", "MissingBox", "MissingFile", "MissingGrid",
    "MissingHalf", "MissingPixels", "MissingStrokes", "MissingText", "MotionBlur", "OneOf", "Pixelate", "PoissonNoise",
    "Quantise", "Range", "Rescale", "Rotate", "SaltPepper", "Shear", "Snow", "Sometimes", "Spatter", "SpeckleNoise",
    "Stripe", "TrailBlur", "Translate", "UniformNoise", "WebP", "Zigzag", "ZoomBlur", "resize",
]  # fmt: skip
