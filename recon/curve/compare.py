"""What curves come to: means with intervals, paired differences, areas, and the severity from which restoring helps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recon.curve.damage import Damage
from recon.curve.measure import Columns
from recon.measures import measure
from recon.metrics.classes import calibration_error
from recon.report.inference import LEVEL, holm, mcnemar, mean_interval, share_interval, sign_flip, wilson

Array = NDArray[np.float64]
_RESAMPLED = 2000  # times the images are drawn again for an interval
_BLOCK = 200  # of these at a time


@dataclass(frozen=True)
class Curve:
    """A line: a measure of one method at each severity.

    Attributes:
        label: of the method.
        measure: its name in `recon.measures`.
        mean: (S,).
        low, high: (S,) the 95 % interval over the test images, or None where there is none.
        values: (N,S) of each image, averaged over the kinds of corruption, or None.
    """

    label: str
    measure: str
    mean: Array
    low: Array | None
    high: Array | None
    values: Array | None


@dataclass(frozen=True)
class Difference:
    """A method less the first one, on the same images: (S,) each; p is corrected by Holm's method."""

    label: str
    mean: Array
    low: Array
    high: Array
    p: Array


def curves(labels: Sequence[str], table: Sequence[Sequence[Columns]], damage: Damage) -> list[list[Curve]]:
    """Make the curves of each method: of classifiers accuracy and ECE, of others PSNR and SSIM."""
    found = []
    for number, label in enumerate(labels):
        columns = [row[number] for row in table]
        if "right" in columns[0]:
            right = _by_severity([column["right"] for column in columns], damage)
            errors = [calibration_error(column["confidence"], column["right"]) for column in columns]
            ece = _by_severity([np.array([error]) for error in errors], damage)[0]
            found.append([_with_interval(label, "accuracy", right), Curve(label, "ece", ece, None, None, None)])
        else:
            found.append([_with_interval(label, name, _by_severity([column[name] for column in columns], damage))
                          for name in ("psnr", "ssim")])  # fmt: skip
    return found


def _by_severity(columns: Sequence[Array], damage: Damage) -> Array:
    """Average the columns (N,) of the points of each severity: (N,S)."""
    levels = [point.severity for point in damage.points]
    return np.stack([np.mean([c for c, at in zip(columns, levels, strict=True) if at == level], axis=0)
                     for level in damage.severities], axis=1)  # fmt: skip


def _with_interval(label: str, name: str, values: Array) -> Curve:
    mean = values.mean(0)
    if len(values) < 2:
        return Curve(label, name, mean, None, None, values)
    row = measure(name)
    if np.isin(values, (0.0, 1.0)).all():
        return Curve(label, name, mean, *wilson(values.sum(0), len(values)), values)
    low, high = (np.clip(end, *row.bounds) for end in mean_interval(values))
    return Curve(label, name, mean, low, high, values)


def differences(found: Sequence[Curve]) -> list[Difference]:
    """Compare each curve with the first, image by image."""
    first = found[0].values
    made = []
    for curve in found[1:]:
        if first is None or curve.values is None or len(first) < 2:
            continue
        by = curve.values - first
        shares = bool(np.isin(by, (-1.0, 0.0, 1.0)).all())
        low, high = (share_interval if shares or curve.measure == "accuracy" else mean_interval)(by)
        p = holm([(mcnemar if shares else sign_flip)(column) for column in by.T])
        made.append(Difference(curve.label, by.mean(0), low, high, np.array(p)))
    return made


@dataclass(frozen=True)
class Area:
    """The mean of a curve over its severities with its 95 % interval, and less that of the first; see `areas`."""

    label: str
    mean: float
    low: float
    high: float
    more: tuple[float, ...] | None


def areas(found: Sequence[Curve], damage: Damage) -> list[Area]:
    """Return the area under each curve divided by the span of the severities; none where values are not known.

    Of corruptions, whose severities are mere numbers, it is the plain mean over them, without the clean images.
    """
    from scipy.integrate import trapezoid

    levels = damage.severities

    made = []
    first: Array | None = None
    for curve in found:
        if curve.values is None or len(curve.values) < 2:
            return []
        mine: Array = trapezoid(curve.values, levels, axis=1) / (levels[-1] - levels[0])
        if damage.kinds:
            mine = curve.values[:, 1:].mean(1)
        low, high = mean_interval(mine)
        more: tuple[float, ...] | None = None
        if first is not None:
            by = mine - first
            more = (float(by.mean()), *(float(end) for end in mean_interval(by)))
        first = mine if first is None else first
        made.append(Area(curve.label, float(mine.mean()), float(low), float(high), more))
    return made


def crossing(by: Array, severities: Array) -> Array:
    """Return the severity from which on a difference stays above 0, for rows of differences (R,S): (R,).

    Between the last severity without a gain and the next it is interpolated. It is the first severity where there is a
    gain at all, and infinite where there is none at the last.

    >>> crossing(np.array([[-1.0, 1.0], [1.0, 1.0], [1.0, -1.0]]), np.array([0.0, 1.0]))
    array([0.5, 0. , inf])
    """
    count = by.shape[1]
    last = count - 1 - np.argmax((by <= 0)[:, ::-1], axis=1)
    always, never = (by > 0).all(1), by[:, -1] <= 0
    before = np.clip(last, 0, count - 2)
    rows = np.arange(len(by))
    below, above = by[rows, before], by[rows, before + 1]
    share = np.where(always | never, 0.0, -below / np.where(above > below, above - below, 1.0))
    at = severities[before] + share * (severities[before + 1] - severities[before])
    return np.where(always, severities[0], np.where(never, np.inf, at))


def crossover(before: Curve, after: Curve, severities: Sequence[float]) -> tuple[float, float, float]:
    """Return from which severity on one curve lies above another, with the 95 % interval over resampled images."""
    assert before.values is not None
    assert after.values is not None
    by, levels = after.values - before.values, np.array(severities)
    drawn, count = np.random.default_rng(0), len(by)
    means = [drawn.multinomial(count, np.full(count, 1 / count), _BLOCK) @ by / count
             for _ in range(_RESAMPLED // _BLOCK)]  # fmt: skip
    at = crossing(np.concatenate(means), levels)
    low, high = np.quantile(at, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="inverted_cdf")
    return float(crossing(by.mean(0)[None], levels)[0]), float(low), float(high)


def helps(before: Curve, after: Curve, damage: Damage) -> str:
    """Say in words from which severity on restoring first helps."""
    levels = damage.severities
    at, low, high = crossover(before, after, levels)
    place, upper = damage.label, f"{high:.3g}" if np.isfinite(high) else f"beyond {levels[-1]:g}"
    within = f"95 % interval {low:.3g} to {upper}"
    by = differences([before, after])[0]
    certain = [f"{level:g}" for level, gain, p in zip(levels, by.mean, by.p, strict=True) if gain > 0 and p < 1 - LEVEL]
    harms = [f"{level:g}" for level, gain, p in zip(levels, by.mean, by.p, strict=True) if gain < 0 and p < 1 - LEVEL]
    words = f"Restoring first does not help {before.label} at {place} {levels[-1]:g}"
    if at == levels[0]:
        words = f"Restoring first helps {before.label} at every {place} measured ({within})"
    elif np.isfinite(at):
        words = f"Restoring first helps {before.label} from {place} {at:.3g} on ({within})"
    tested = f" McNemar's test with Holm's correction is certain that it helps at {', '.join(certain) or 'none'}"
    return f"{words};{tested}, and that it harms at {', '.join(harms) or 'none'}."


def rows(found: Sequence[Sequence[Curve]], damage: Damage) -> list[dict[str, Any]]:
    """Return the table of all curves, a row for each method and severity, for a CSV."""
    compared = {by.label: by for by in differences([of[0] for of in found])}
    made = []
    for of_method in found:
        for index, severity in enumerate(damage.severities):
            row: dict[str, Any] = {"method": of_method[0].label, "severity": severity}
            for curve in of_method:
                row[curve.measure] = curve.mean[index]
                if curve.low is not None and curve.high is not None:
                    row |= {f"{curve.measure}_low": curve.low[index], f"{curve.measure}_high": curve.high[index]}
            if by := compared.get(of_method[0].label):
                ends = {"difference": by.mean, "difference_low": by.low, "difference_high": by.high, "p": by.p}
                row |= {name: values[index] for name, values in ends.items()}
            made.append(row)
    return made


def by_kind(labels: Sequence[str], table: Sequence[Sequence[Columns]], damage: Damage) -> list[dict[str, Any]]:
    """Return the usual table of corruptions: for each method and kind its mean at each severity, and over them."""
    made = []
    for number, label in enumerate(labels):
        name = "right" if "right" in table[0][number] else "psnr"
        means = [float(row[number][name].mean()) for row in table]
        of_kind = {kind: {p.severity: m for p, m in zip(damage.points, means, strict=True) if p.kind == kind}
                   for kind in damage.kinds}  # fmt: skip
        # All columns, so that the mean is the last one.
        made.append({"method": label, "corruption": "clean", **{f"{level:g}": "" for level in damage.severities[1:]},
                     "mean": means[0]})  # fmt: skip
        for kind, at in of_kind.items():
            made.append({"method": label, "corruption": kind, **{f"{level:g}": value for level, value in at.items()},
                         "mean": float(np.mean(list(at.values())))})  # fmt: skip
        levels = {
            f"{level:g}": float(np.mean([at[level] for at in of_kind.values()])) for level in damage.severities[1:]
        }
        made.append({"method": label, "corruption": "mean", **levels, "mean": float(np.mean(means[1:]))})
    return made


def by_class(
    labels: Sequence[str], table: Sequence[Sequence[Columns]], damage: Damage, names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return for each method of classifiers the accuracy on the images of each class at each severity.

    Args:
        labels: of the methods.
        table: see `measured`.
        damage: of corruptions a severity is the mean over the kinds.
        names: of the classes, in the order of their numbers.
    """
    made = []
    for number, label in enumerate(labels):
        columns = [row[number] for row in table]
        of = columns[0]["label"].astype(int)
        right = _by_severity([column["right"] for column in columns], damage)
        for each in np.unique(of).tolist():
            means = right[of == each].mean(0).tolist()
            levels = dict(zip((f"{level:g}" for level in damage.severities), means, strict=True))
            name = names[each] if each < len(names) else str(each)
            made.append({"method": label, "class": name, "images": int((of == each).sum()), **levels})
    return made
