"""Which pixels models used, as `action=explain` has drawn and checked it in their run folders."""

from __future__ import annotations

import math

from recon.measures import DASH
from recon.report import chart
from recon.report.elements import Child, Html, cut, note, scrolled, section, tag
from recon.report.gather import Problem
from recon.report.pictures import Album
from recon.report.run import Run

_MOST = 4  # runs
_LARGEST = 1024  # pixels of the longer side of a sheet


def explained(problem: Problem, album: Album) -> Html | None:
    """The sheets of the runs that have some, and what the checks of their maps say."""
    found = [(rank, entry.label, run) for rank, entry in enumerate(problem.entries, 1) for run in entry.runs
             if run.sheets or run.checks]  # fmt: skip
    parts: list[Child] = []
    for rank, label, run in found[:_MOST]:
        parts.append(tag("h4", chart.badge(rank), f" {label}"))
        for name, pixels in run.sheets.items():
            called = "side by side" if name == "all" else name.replace("_", " ")
            picture = album.image(pixels, f"{called} of {label}", True, _LARGEST)
            parts.append(tag("figure", tag("figcaption", called), picture, class_="drawn") if picture else None)
        parts.append(_checks(run))
    if not parts:
        return None
    text = (
        "By action=explain. A map is a claim: sums of integrated gradients must be what the score changed by "
        "(completeness); with randomised weights the map must be another one (a rank correlation near 1 is no sign "
        "of one); as its strongest pixels are deleted the probability must fall faster than in random order, and rise "
        "faster as they are inserted. Given are the areas under these curves, with 95 % intervals of the difference."
    )
    return section("Which pixels were used", note(text), parts)


def _checks(run: Run) -> Html | None:
    if not run.checks:
        return None
    head = ["method", "images", "completeness missed by", "correlation, randomised", "deletion, lower is better",
            "insertion, higher is better"]  # fmt: skip
    rows = []
    for method, of in run.checks.items():
        missed, alike = of.get("completeness_error", math.nan), of.get("likeness_randomised", math.nan)
        rows.append([
            cut(method.replace("_", " ")), f"{of.get('images', math.nan):.0f}",
            DASH if math.isnan(missed) else f"{100 * missed:.2g} %",
            DASH if math.isnan(alike) else f"{alike:.2f}".replace("-", "−"),
            _area(of, "deletion"), _area(of, "insertion"),
        ])  # fmt: skip
    return scrolled(chart.table(head, rows), "Checks of the maps")


def _area(of: dict[str, float], name: str) -> str:
    keys = (name, f"{name}_by_chance", f"{name}_low", f"{name}_high")
    area, chance, low, high = (of.get(key, math.nan) for key in keys)
    if math.isnan(area):
        return DASH
    return f"{area:.3f} (random {chance:.3f}; difference {low:.3f} to {high:.3f})".replace("-", "−")
