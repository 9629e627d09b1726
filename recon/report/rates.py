"""What codecs take against how near images come back, as `action=rates` has written it into a run folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from recon.measures import ROWS
from recon.report import chart
from recon.report.elements import Html, note, section, tag
from recon.report.gather import Problem
from recon.report.run import Run

OURS = "codec"
MEASURES = ("psnr", "ssim")
WAYS = {
    "alone": "a file for each image",
    "together": "one file of all images, headers counted once",
}


def rates(problem: Problem) -> Html | None:
    """The curves of the first run that has them, and the difference from each rival at equal quality."""
    run = next((run for entry in problem.entries for run in entry.runs if run.rates), None)
    if run is None:
        return None
    methods = list(dict.fromkeys(run.rates["method"].tolist()))
    charts = [_chart(run, methods, name, way) for name in MEASURES for way in WAYS]
    count = int(run.rates["images"].max())
    text = (
        f"By action=rates run={run.name}, on the same {count:,} test images; all bytes of the files count. The numbers "
        "at the lines are those of this list."
    )
    legend = chart.legend(list(enumerate(methods, 1)))
    return section("Bytes against quality", legend, tag("div", charts, class_="charts"), _compared(run), note(text))


def in_words(row: Mapping[str, Any]) -> str:
    """Write a difference of rates with its interval, in percent."""
    if not math.isfinite(row["value"]):
        return "no quality in common"
    return f"{100 * row['value']:+.1f} % [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]".replace("-", "−")


def _chart(run: Run, methods: list[str], name: str, way: str) -> Html:
    table, row = run.rates, ROWS[name]
    lines, rows = [], []
    for number, method in enumerate(methods, 1):
        mine = table["method"] == method
        points = sorted(zip(table[f"bits_per_pixel_{way}"][mine].tolist(), table[name][mine].tolist(),
                            table["setting"][mine].tolist(), strict=True))  # fmt: skip
        lines.append(chart.Line(number, method, [x for x, *_ in points], [y * row.factor for _, y, _ in points]))
        rows += [[f"{number} {method}", setting, f"{x:.4f}", row.text(y, unit=True)] for x, y, setting in points]
    title = f"{row.label}, {WAYS[way]}"
    drawn = chart.lines(title, lines, "bits per pixel", row.heading, log=True)
    return chart.figure(title, drawn, chart.table(["method", "setting", "bits per pixel", row.label], rows))


def _compared(run: Run) -> Html | None:
    """The difference of the codec's rate from each rival's."""
    table = run.rates_compared
    if not table:
        return None
    found = [{name: column[index] for name, column in table.items()} for index in range(len(table["rival"]))]
    head = [f"{ROWS[name].label}, {WAYS[way]}" for name in MEASURES for way in WAYS]
    rows = []
    for rival in dict.fromkeys(table["rival"].tolist()):
        cells = {(each["measure"], each["files"]): in_words(each) for each in found if each["rival"] == rival}
        rows.append([rival, *(cells.get((name, way), "–") for name in MEASURES for way in WAYS)])
    title = "Rate of the codec at equal quality (BD-rate), less that of each; negative is better"
    return tag("div", tag("p", title), chart.table(["rival", *head], rows), class_="scroll")
