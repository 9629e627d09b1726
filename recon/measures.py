"""The measures that runs record: what they are called, which way is better, how their numbers are written."""

from __future__ import annotations

import math
from dataclasses import dataclass

DASH = "–"


@dataclass(frozen=True)
class Measure:
    """How to read and write one metric.

    Attributes:
        name: its key without the split, such as "psnr".
        label: its name in a heading.
        better: 1 where higher is better, -1 where lower is, 0 where neither.
        unit: "dB", "%" and so on, or "".
        decimals: digits after the point, or None for three significant digits.
        factor: what the number is multiplied by to be written.
        lowest, highest: what it can be at all.
        before: the same measure of the images as they came, or None.
        partial: not defined for every image, such as one without a hole: NaN there is no fault.
        timed: it depends on how fast something ran.
    """

    name: str
    label: str
    better: int
    unit: str = ""
    decimals: int | None = None
    factor: float = 1.0
    lowest: float = -math.inf
    highest: float = math.inf
    before: str | None = None
    partial: bool = False
    timed: bool = False

    def text(self, value: float, unit: bool = False, like: float | None = None) -> str:
        """Write a value, with as many decimals as `like` has if given; a dash where there is none."""
        if not math.isfinite(value):
            return "not finite" if math.isinf(value) else DASH
        digits = self._digits(value if like is None else like)
        value *= self.factor
        written = f"{value:,.{digits}f}" if digits < 8 and abs(value) < 1e12 else f"{value:.2e}"
        if float(written.replace(",", "")) == 0:
            written = written.lstrip("-")
        written = written.replace("-", "−")
        return f"{written} {self.unit}" if unit and self.unit else written

    @property
    def heading(self) -> str:
        """Its name with its unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def points(self) -> str:
        """What a difference is counted in."""
        return "percentage points" if self.unit == "%" else self.unit or self.label

    def interval(self, low: float, high: float) -> str:
        """Write an interval of what can be: a share of more than all is none."""
        return f"{self.text(self.clip(low))} to {self.text(self.clip(high))}"

    def clip(self, value: float) -> float:
        """Take a value back into what can be."""
        return min(max(value, self.lowest), self.highest)

    def _digits(self, value: float) -> int:
        if self.decimals is not None:
            return self.decimals
        return max(0, 2 - math.floor(math.log10(abs(value * self.factor)))) if value and math.isfinite(value) else 2


def _percent(name: str, label: str) -> Measure:
    return Measure(name, label, 1, "%", 2, 100.0, 0.0, 1.0)


# Every measure that recon records; a loss or logit of two players at odds is better neither way.
_KNOWN = {
    measure.name: measure
    for measure in (
        Measure("psnr_hole", "PSNR in the hole", 1, "dB", 2, before="psnr_hole_mean", partial=True),
        Measure("psnr", "PSNR", 1, "dB", 2, before="psnr_degraded"),
        Measure("ssim", "SSIM", 1, "", 4, highest=1.0, before="ssim_degraded"),
        _percent("accuracy", "accuracy"),
        _percent("recognised", "recognised"),
        _percent("f1", "F1"),
        _percent("precision", "precision"),
        _percent("recall", "recall"),
        Measure("classes", "classes seen", 1, "", 1),
        Measure("mse", "MSE", -1, lowest=0.0),
        Measure("loss", "loss", -1),
        Measure("reconstruction", "reconstruction", -1, "nats", lowest=0.0),
        Measure("divergence", "divergence", 0, "nats", lowest=0.0),
        Measure("loss_adversarial", "adversarial loss", 0),
        Measure("loss_discriminator", "loss of the discriminator", 0),
        Measure("logit_real", "logit of clean images", 0),
        Measure("logit_fake", "logit of generated images", 0),
        Measure("not_finite", "images not finite", -1, "", 0, lowest=0.0),
        Measure("psnr_degraded", "PSNR before", 0, "dB", 2),
        Measure("ssim_degraded", "SSIM before", 0, "", 4),
        Measure("psnr_hole_mean", "PSNR in the hole, filled with the mean", 0, "dB", 2, partial=True),
        Measure("lr", "learning rate", 0),
        Measure("parameters", "weights", -1, "", 0),
        Measure("latency_ms", "time for one image", -1, "ms", timed=True),
        Measure("megapixels_per_second", "throughput", 1, "megapixels/s", timed=True),
        Measure("images_per_second", "training speed", 1, "images/s", timed=True),
        Measure("seconds", "training time", -1, "s", 1, timed=True),
    )
}
ORDER = list(_KNOWN)
# Measures of quality that models can be told apart by, the first that all runs of a problem have counts.
MAIN = ("psnr_hole", "psnr", "accuracy", "recognised")
# What sums a run up in one number: these, else how far it is off.
HEADLINE = (*MAIN, "mse", "loss")
# What is measured of the images as they came, not of what a model made of them.
BASELINES = frozenset(measure.before for measure in _KNOWN.values() if measure.before)


def measure(name: str) -> Measure:
    """Look a measure up, with or without its split; one that is not known is written plainly and not judged."""
    name = name.split("/", 1)[-1]
    return _KNOWN.get(name) or Measure(name, name.replace("_", " "), 0, partial=True)


def in_order(names: set[str]) -> list[str]:
    """Sort names of measures: the known ones first, in their order."""
    return sorted(names, key=lambda name: (ORDER.index(name) if name in _KNOWN else len(ORDER), name))


_PSNR = "mean over images of 10·log10(1/MSE) in dB, capped at 100 dB; images clamped to [0,1], no 8-bit rounding; "

_SSIM = (
    "mean over images of the SSIM as scikit-image computes it: 11x11 Gaussian window with sigma 1.5, K1 0.01, K2 0.03, "
    "data range 1, mean over channels and the positions where the whole window fits; images clamped to [0,1], no 8-bit "
    "rounding; sides under 11 pixels shrink the window"
)

_ENLARGED = "; a smaller degraded image enlarged as MATLAB's imresize does it (bicubic)"

CONVENTION: dict[str, str] = {
    "psnr": _PSNR + "the MSE over all pixels and channels, no border cropped",
    "psnr_degraded": _PSNR
    + "the degraded image against the clean one, all pixels and channels, no border cropped"
    + _ENLARGED,
    "psnr_hole": _PSNR + "the MSE over the hole pixels only, all channels; images without a hole are left out",
    "psnr_hole_mean": _PSNR + "the hole pixels only, filled with the mean of the image's known pixels",
    "ssim": _SSIM,
    "ssim_degraded": _SSIM + "; the degraded image against the clean one" + _ENLARGED,
    "mse": "mean over images of the squared error of all pixels and channels; images clamped to [0,1]",
    "accuracy": "fraction of all images whose class is predicted right",
    "precision": "macro precision: unweighted mean over the classes that occur in labels or predictions; 0 for a "
    "class never predicted",
    "recall": "macro recall: unweighted mean over the classes that occur in labels or predictions; 0 for a class "
    "without labels",
    "f1": "macro F1: unweighted mean over the classes of each class's F1",
    "not_finite": "images whose result is NaN or infinite; any mean over the images is then not finite either",
    "parameters": "trainable weights of the net that restores, recognises or generates; no discriminator",
    "latency_ms": "median time in ms of one forward of the first test image alone, on the run's device and precision, "
    "after a warm-up; a generator makes one image",
    "megapixels_per_second": "pixels of clean images (height x width) that the net works on in a second, median over "
    "forwards of one batch of the first test images cut to one size, on the run's device and precision",
}

# What is not defined for every image: here alone a NaN is no fault, and such images are left out of the mean.
PARTIAL = frozenset({"psnr_hole", "psnr_hole_mean"})
