"""The table of measures: what each recorded number is called, how it is computed, judged and written.

All that depends on what a measure is follows from these rows: what ranks models, the columns of a leaderboard, which
way a search goes. A module adds rows of its own by its attribute `measures`; a run records the rows that it used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

DASH = "–"
Role = Literal["quality", "loss", "baseline", "cost", "about", "other"]
KINDS = ("restore", "recognise", "generate")  # what a model is for; see `Module.kind`


@dataclass(frozen=True)
class Measure:
    """How to compute, judge and write one metric.

    Attributes:
        name: its key without the split, such as "psnr".
        label: its name in a heading.
        better: 1 where higher is better, -1 where lower is, 0 where neither.
        unit: "dB", "%" and so on, or "".
        decimals: digits after the point, or None for three significant digits.
        role: "quality" ranks models, the first in the table that all have; "loss" is minimised, or a part of that;
            "baseline" measures the images before the model; "cost" is time or size; "about" describes an image, an
            epoch or a run and has no mean; "other" is shown without judgement.
        convention: how it is computed, or "" where the name says it.
        before: the name of its baseline, or None.
        partial: not defined for every image, such as one without a hole: NaN there is no fault.
        timed: it depends on how fast something ran.
        factor: what the number is multiplied by to be written.
        bounds: the lowest and the highest possible value.
        kind: the only kind of model that records it, one of `KINDS`, or "".
        input: what of the test images alone determines it: their "damage", their "content", or "" for neither.
    """

    name: str
    label: str
    better: int = 0
    unit: str = ""
    decimals: int | None = None
    role: Role = "other"
    convention: str = ""
    before: str | None = None
    partial: bool = False
    timed: bool = False
    factor: float = 1.0
    bounds: tuple[float, float] = (-math.inf, math.inf)
    kind: str = ""
    input: Literal["", "damage", "content"] = ""

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
        """The unit of a difference."""
        return "percentage points" if self.unit == "%" else self.unit or self.label

    def interval(self, low: float, high: float) -> str:
        """Write an interval, clipped to the possible values."""
        return f"{self.text(self.clip(low))} to {self.text(self.clip(high))}"

    def clip(self, value: float) -> float:
        """Clip to the possible values."""
        return min(max(value, self.bounds[0]), self.bounds[1])

    def _digits(self, value: float) -> int:
        if self.decimals is not None:
            return self.decimals
        scaled = abs(value * self.factor)
        return max(0, 2 - math.floor(math.log10(scaled))) if scaled and math.isfinite(scaled) else 2

    def record(self) -> dict[str, Any]:
        """Return its entry in `metrics.json`; an infinite bound is None."""
        bounds = [bound if math.isfinite(bound) else None for bound in self.bounds]
        return {key: getattr(self, key) for key in _VALID} | {"bounds": bounds}


_PSNR = "mean over images of 10·log10(1/MSE) in dB, capped at 100 dB; images clamped to [0,1], no 8-bit rounding; "
_SSIM = (
    "mean over images of the SSIM as scikit-image computes it: 11x11 Gaussian window with sigma 1.5, K1 0.01, K2 0.03, "
    "data range 1, mean over channels and the positions where the whole window fits; images clamped to [0,1], no 8-bit "
    "rounding; sides under 11 pixels shrink the window"
)
_DEGRADED = "the degraded image against the clean one"
_ENLARGED = "; a smaller degraded image enlarged as MATLAB's imresize does it (bicubic)"
_MACRO = "unweighted mean over the classes that occur in labels or predictions; 0 for a class "


def _image(
    name: str, label: str, better: int, unit: str, decimals: int | None, convention: str, **more: Any
) -> Measure:
    return Measure(name, label, better, unit, decimals, "quality", convention, kind="restore", **more)


def _share(name: str, label: str, convention: str = "", kind: str = "recognise", **more: Any) -> Measure:
    return Measure(name, label, 1, "%", 2, "quality", convention, factor=100.0, bounds=(0.0, 1.0), kind=kind, **more)


_POSITIVE = (0.0, math.inf)
# The order is that of the leaderboard's columns. Losses and logits of two competing players are better neither way.
ROWS: dict[str, Measure] = {
    row.name: row
    for row in (
        _image("psnr_hole", "PSNR in the hole", 1, "dB", 2,
               _PSNR + "the MSE over the hole pixels only, all channels; images without a hole are left out",
               before="psnr_hole_mean", partial=True),
        _image("psnr", "PSNR", 1, "dB", 2, _PSNR + "the MSE over all pixels and channels, no border cropped",
               before="psnr_degraded"),
        _image("ssim", "SSIM", 1, "", 4, _SSIM, before="ssim_degraded", bounds=(-math.inf, 1.0)),
        Measure("psnr_sure", "PSNR by SURE", 0, "dB", 2, "other",
                "mean over images of the PSNR that Stein's unbiased risk estimate gives without the clean image, at "
                "most 100 dB: divergence by one keyed probe of ±1 (Ramani et al. 2008) in float32, of the net with its "
                "output clamped to [0,1], no 8-bit rounding, all pixels and channels; the noise is Gaussian, unclipped "
                "and of known sigma; an estimate of the MSE below its standard error sigma²·√(2/N) counts as that",
                kind="restore"),
        _share("accuracy", "accuracy", "fraction of all images whose class is predicted right"),
        _share("recognised", "recognised", "fraction of the images whose label the classifier of model.judge sees",
               kind="", before="recognised_degraded"),
        _share("f1", "F1", "macro F1: unweighted mean over the classes of each class's F1"),
        _share("f1_weighted", "weighted F1", "mean over the classes of each class's F1, weighted by its images"),
        _share("precision", "precision", f"macro precision: {_MACRO}never predicted"),
        _share("recall", "recall", f"macro recall: {_MACRO}without labels"),
        _share("balanced_accuracy", "balanced accuracy", "unweighted mean recall of the classes that have images"),
        _share("auroc", "AUROC", "area under the ROC curve of each class against the others, unweighted mean over the "
               "classes that occur in the labels", partial=True),
        Measure("brier", "Brier score", -1, "", 4, "other", "mean over images of the squared distance of the "
                "probabilities of all classes from the true one, 0 to 2 (Brier 1950)", bounds=(0.0, 2.0),
                kind="recognise"),
        Measure("ece", "calibration error", -1, "%", 2, "other", "expected calibration error: mean over images of the "
                "difference of confidence and accuracy in 15 bins of equal width (Guo et al. 2017)", factor=100.0,
                bounds=(0.0, 1.0), kind="recognise"),
        Measure("rmsce", "RMS calibration error", -1, "%", 2, "other", "as the calibration error, the root of the mean "
                "square over images", factor=100.0, bounds=(0.0, 1.0), kind="recognise"),
        Measure("mce", "worst calibration error", -1, "%", 2, "other", "as the calibration error, of the worst bin",
                factor=100.0, bounds=(0.0, 1.0), kind="recognise"),
        Measure("classes", "classes seen", 1, "", 1, "quality", kind="generate"),
        Measure("class_entropy", "entropy of the classes seen", 1, "bits", 2, "other",
                "of the classes that the judge sees; at most the binary logarithm of their number", kind="generate"),
        Measure("copying_p", "p of no copying", 0, "", 3, "other",
                "how likely as many generated images are among the 5 % nearest to a training image, of generated and "
                "test images together, were both alike (hypergeometric; features of the judge)", kind="generate",
                bounds=(0.0, 1.0)),
        _image("mse", "MSE", -1, "", None, "mean over images of the squared error of all pixels and channels; images "
               "clamped to [0,1]", bounds=_POSITIVE),
        Measure("loss", "loss", -1, role="loss"),
        Measure("reconstruction", "reconstruction", -1, "nats", role="loss"),
        Measure("divergence", "divergence", 0, "nats", role="loss", bounds=_POSITIVE),
        Measure("loss_adversarial", "adversarial loss", role="loss"),
        Measure("loss_discriminator", "loss of the discriminator", role="loss"),
        Measure("loss_features", "distance of features", role="loss", bounds=_POSITIVE),
        Measure("logit_real", "logit of clean images"),
        Measure("logit_fake", "logit of generated images"),
        Measure("psnr_degraded", "PSNR of the degraded image", 0, "dB", 2, "baseline",
                f"{_PSNR}{_DEGRADED}, all pixels and channels, no border cropped{_ENLARGED}", input="damage"),
        Measure("ssim_degraded", "SSIM of the degraded image", 0, "", 4, "baseline",
                f"{_SSIM}; {_DEGRADED}{_ENLARGED}", input="content"),
        Measure("psnr_hole_mean", "PSNR in the hole filled with the mean", 0, "dB", 2, "baseline",
                _PSNR + "the hole pixels only, filled with the mean of the image's known pixels",
                partial=True, input="content"),
        Measure("recognised_degraded", "recognised, degraded", 0, "%", 2, "baseline", "as recognised, of the degraded "
                "images", factor=100.0, bounds=(0.0, 1.0)),
        Measure("recognised_clean", "recognised, clean", 0, "%", 2, "other", "as recognised, of the clean images",
                factor=100.0, bounds=(0.0, 1.0)),
        Measure("seconds", "training time", -1, "s", 1, "cost", timed=True),
        Measure("parameters", "weights", -1, "", 0, "cost",
                "trainable weights of the net that restores, recognises or generates; no discriminator"),
        Measure("latency_ms", "time for one image", -1, "ms", None, "cost",
                "median time in ms of one forward of the first test image alone, on the run's device and precision, "
                "after a warm-up; a generator makes one image", timed=True),
        Measure("megapixels_per_second", "throughput", 1, "megapixels/s", None, "cost",
                "pixels of clean images (height x width) that the net works on in a second, median over forwards of "
                "one batch of the first test images cut to one size, on the run's device and precision", timed=True),
        Measure("images_per_second", "training speed", 1, "images/s", None, "about", timed=True),
        Measure("not_finite", "images not finite", -1, "", 0, "about", "images whose result is NaN or infinite; any "
                "mean over the images is then not finite either", bounds=_POSITIVE),
        Measure("lr", "learning rate", role="about"),
        Measure("health", "health", 0, "", 0, "about",
                "0 healthy, 1 stalling, 2 diverging, 3 collapsing, 4 over-fitting", kind="generate"),
        Measure("fitted_steps", "steps of the fit to the image", 0, "", 0, "about"),
        Measure("index", "place in the test set", 0, "", 0, "about", input="damage"),
        Measure("severity", "level of damage", role="about", input="damage"),
        Measure("label", "class", 0, "", 0, "about", input="damage"),
        Measure("prediction", "predicted class, -1 for none", 0, "", 0, "about"),
        Measure("confidence", "confidence", 0, "%", 1, "about", "softmax of the predicted class", factor=100.0,
                bounds=(0.0, 1.0)),
        Measure("rank", "place of the class among the scores", 0, "", 0, "about"),
        Measure("temperature", "temperature", 0, "", 3, "about", "of action=calibrate; scores are divided by it"),
        Measure("recognised_as", "class that the judge sees, -1 for none", 0, "", 0, "about"),
    )
}  # fmt: skip


def top_of(k: int) -> Measure:
    """Return the row of the accuracy of the first k guesses."""
    return _share(
        f"top_{k}", f"top-{k} accuracy", f"fraction of all images whose class has one of the {k} highest scores"
    )


def measure(name: str, rows: Mapping[str, Measure] = ROWS) -> Measure:
    """Look a measure up, with or without its split; an unknown one is written plainly and not judged."""
    name = name.split("/", 1)[-1]
    return rows.get(name) or Measure(name, name.replace("_", " "), partial=True)


def with_own(rows: Iterable[Measure]) -> dict[str, Measure]:
    """Return the table with further rows, which may replace its own."""
    return {**ROWS, **{row.name: row for row in rows}}


def headline(rows: Mapping[str, Measure] = ROWS) -> list[Measure]:
    """Return the measures that may stand for a whole run, the most telling first: quality, then losses."""
    judged = [row for row in rows.values() if row.better and row.role in ("quality", "loss")]
    return sorted(judged, key=lambda row: row.role == "loss")


def in_order(names: Iterable[str]) -> list[str]:
    """Sort names of measures: those of the table first, in its order."""
    order = {name: number for number, name in enumerate(ROWS)}
    return sorted(names, key=lambda name: (order.get(name, len(order)), name))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 80


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


# The entries of a recorded row and what is accepted from an untrusted folder.
_VALID: dict[str, Callable[[Any], bool]] = {
    "label": _is_text,
    "unit": _is_text,
    "better": lambda value: type(value) is int and -1 <= value <= 1,
    "decimals": lambda value: value is None or (type(value) is int and 0 <= value <= 9),
    "factor": lambda value: _is_number(value) and 1e-9 <= value <= 1e9,
    "role": lambda value: value in get_args(Role),
    "before": lambda value: value is None or _is_text(value),
    "partial": lambda value: isinstance(value, bool),
    "timed": lambda value: isinstance(value, bool),
    "bounds": lambda value: (
        isinstance(value, list) and len(value) == 2 and all(bound is None or _is_number(bound) for bound in value)
    ),
}


def from_record(name: str, row: Any) -> Measure | None:
    """Read one entry of "measures" in an untrusted `metrics.json`; None where it is damaged."""
    if not _is_text(name) or not isinstance(row, dict) or not _VALID.keys() <= row.keys():
        return None
    if not all(valid(row[key]) for key, valid in _VALID.items()):
        return None
    low, high = row["bounds"]
    bounds = (-math.inf if low is None else float(low), math.inf if high is None else float(high))
    return Measure(name, **{key: row[key] for key in _VALID if key != "bounds"}, bounds=bounds)
