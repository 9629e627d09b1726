"""Which pixels models used, as `action=explain` has drawn and checked it in their run folders."""

from __future__ import annotations

import math

from recon.measures import DASH
from recon.report import chart
from recon.report.afterwards import runs_with
from recon.report.elements import Child, Html, cut, note, scrolled, section
from recon.report.gather import Problem
from recon.report.pictures import Album
from recon.report.run import Run


def explained(problem: Problem, album: Album) -> Html | None:
    """The sheets of the runs that have some, and what the checks of their maps say."""
    parts: list[Child] = []
    for heading, label, run in runs_with(problem, "explain"):
        sheets = {"side by side" if name == "all" else name: sheet for name, sheet in run.drawn("explain").items()}
        parts += [heading, *album.figures(sheets, label)]
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
