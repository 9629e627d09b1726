"""What actions have made of runs after their end and kept in their folders: anomalies, and generated images."""

from __future__ import annotations

from recon.measures import DASH
from recon.report import chart
from recon.report.elements import Child, Html, cut, note, scrolled, section, tag
from recon.report.gather import Problem
from recon.report.pictures import Album
from recon.report.run import Run

_MOST = 4  # runs


def runs_with(problem: Problem, what: str) -> list[tuple[Html, str, Run]]:
    """Return heading, label and run of the first runs in whose folders an action left `<what>_*` files."""
    found = [(rank, entry.label, run) for rank, entry in enumerate(problem.entries, 1) for run in entry.runs
             if run.has_drawn(what)][:_MOST]  # fmt: skip
    return [(tag("h4", chart.badge(rank), f" {label}"), label, run) for rank, label, run in found]


def anomalies(problem: Problem, album: Album) -> Html | None:
    """How well scores tell anomalous test images, as `action=anomalies` has measured and drawn it."""
    parts: list[Child] = []
    for heading, label, run in runs_with(problem, "anomaly"):
        parts += [heading, _measured(run), *album.figures(run.drawn("anomaly"), label)]
    if not parts:
        return None
    text = (
        "By action=anomalies: what the model was not trained on should score higher. An AUC of 0.5 is chance, 1 is "
        "perfect; brackets hold 95 % bootstrap intervals."
    )
    return section("Anomalies", note(text), parts)


def generated(problem: Problem, album: Album) -> Html | None:
    """Images that `action=generate` has made of runs: sheets, grids, strips, directions."""
    parts: list[Child] = []
    for heading, label, run in runs_with(problem, "generated"):
        parts += [heading, *album.figures(run.drawn("generated"), label)]
    return section("Generated images", note("By action=generate."), parts) if parts else None


def _measured(run: Run) -> Html | None:
    """The areas under the ROC curve: a row for each kind of anomaly, a column for each score."""
    table = run.anomalies
    if not table:
        return None
    cells = {(against, score): f"{value:.4f} [{low:.4f}, {high:.4f}]"
             for score, against, measure, value, low, high in zip(*table.values(), strict=True)
             if measure == "auc"}  # fmt: skip
    scores = list(dict.fromkeys(score for _, score in cells))
    rows = [[cut(against), *(cells.get((against, score), DASH) for score in scores)]
            for against in dict.fromkeys(against for against, _ in cells)]  # fmt: skip
    return scrolled(chart.table(["anomalous", *(cut(f"AUC, {score}") for score in scores)], rows), "AUC of scores")
