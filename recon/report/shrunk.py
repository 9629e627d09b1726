"""What shrunk models cost and how good they are, as `action=shrink` has written it into their run folders."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recon.measures import DASH, Measure
from recon.report import chart, elements
from recon.report.elements import Child, Html, note, scrolled, section, tag, timed
from recon.report.gather import Problem
from recon.report.inference import pareto
from recon.report.run import Run

_LETTERS = {"torch": "", "ONNX Runtime fp32": "o", "ONNX Runtime int8": "q"}
_COSTS = {
    "multiply_adds": Measure("", "multiply-adds", -1, "million", None, factor=1e-6),
    "bytes": Measure("", "size", -1, "MB", None, factor=1e-6),
    "ms_1": Measure("", "time for one image", -1, "ms", None, timed=True),
    "ms_64": Measure("", "time for 64 images", -1, "ms", None, timed=True),
}
_HEADS = {"multiply_adds": "multiply-adds (M)", "bytes": "size (MB)", "ms_1": "1 image (ms)", "ms_64": "64 images (ms)"}


@dataclass(frozen=True)
class _Form:
    """A net as a program runs it.

    Attributes:
        rank: of its entry, 0 where the original is not among the runs.
        label: of its entry.
        name: of the program.
        costs: by the names of the table, and "parameters".
        quality: the main measure.
        base: the costs of the original in torch, measured in the same process, or none.
        lost: the quality less that of the original.
    """

    rank: int
    label: str
    name: str
    costs: dict[str, float]
    quality: float
    base: dict[str, float]
    lost: float

    @property
    def mark(self) -> str:
        """Its rank, and a letter for its program."""
        return f"{self.rank or DASH}{_LETTERS.get(self.name, '')}"


def shrunk(problem: Problem) -> Html | None:
    """The table of all forms of the shrunk models and of what they were made of, and quality against each cost."""
    main = problem.main
    found = list(_forms(problem)) if main else []
    if main is None or not found:
        return None
    charts = [drawn for name, row in _COSTS.items() if (drawn := _chart(found, name, row, main))]
    text = (
        "By action=shrink, which measures an original and its shrunk form on the CPU in one process; in brackets each "
        "is compared with the original in torch of that process. The numbers in the charts are the ranks, with o for "
        "ONNX Runtime and q for its int8; filled marks on the stepped line are the Pareto front."
    )
    return section("Smaller and faster", _table(found, main), note(text), tag("div", charts, class_="charts"))


def _forms(problem: Problem) -> Iterator[_Form]:
    """Yield the forms of originals, each once, and of what was made of them."""
    assert problem.main is not None
    name = problem.main.name
    ranked = [(rank, entry.label, run) for rank, entry in enumerate(problem.entries, 1) for run in entry.runs]
    known = {_real(run.folder.path): (rank, label, run) for rank, label, run in ranked}
    seen: set[str] = set()
    for rank, label, run in ranked:
        rows = _rows(run, name)
        base = next((row for row in rows if (row["net"], row["form"]) == ("original", "torch")), {})
        source = _real(str(run.folder.config.get("run")))
        of = known.get(source)
        first = of[2].tested.get(name, math.nan) if of else float(base.get("quality", math.nan))
        costs = {key: base[key] for key in base.keys() & {*_COSTS, "parameters"}}
        for row in rows:
            original, own = row["net"] == "original", {key: row[key] for key in (*_COSTS, "parameters")}
            if original and (key := f"{source} {row['form']}") not in seen:
                seen.add(key)
                named = of[:2] if of else (0, Path(source).name)
                yield _Form(*named, row["form"], own, first, costs, 0.0)
            elif not original:
                quality = run.tested.get(name, math.nan)
                yield _Form(rank, label, row["form"], own, quality, costs, quality - first)


def _real(path: Path | str) -> str:
    """Return where a path leads; the path itself where it is none, as a stranger's configuration may hold anything."""
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return str(path)


def _rows(run: Run, name: str) -> list[dict[str, Any]]:
    """Return the rows of a run's table, where they are by this measure."""
    table = run.shrunk
    count = len(table.get("net", ()))
    rows = [{key: column[index].item() for key, column in table.items()} for index in range(count)]
    return [row for row in rows if row["measure"] == name]


def _table(found: list[_Form], main: Measure) -> Html:
    head = ["configuration", "form", main.heading, "less original", "weights", *_HEADS.values()]
    rows = []
    for form in found:
        weights = form.costs["parameters"]
        cells: list[Child] = [
            tag("td", form.name, data_label="form", class_="form"),
            _cell(main.heading, main.text(form.quality), form.quality),
            _cell("less original", main.text(form.lost) if form.lost else DASH, form.lost),
            _cell("weights", f"{weights:,.0f}", weights),
        ]
        for name, row in _COSTS.items():
            value, base = form.costs[name], form.base.get(name, math.nan)
            more = "" if not base > 0 or value == base else f" ({_ratio(base / value)})"
            said: Child = f"{row.text(value)}{more}"
            cells.append(_cell(_HEADS[name], timed(said) if row.timed else said, value))
        head_cell = tag("th", chart.badge(form.rank) if form.rank else DASH, " ", form.label, scope="row")
        rows.append(tag("tr", head_cell, cells))
    return scrolled(elements.table(head, rows), "Shrunk models and what they cost")


def _ratio(times: float) -> str:
    return f"÷ {times:.3g}" if times >= 1 else f"× {1 / times:.3g}"


def _cell(name: str, content: Child, value: float | None = None) -> Html:
    known = value if value is not None and math.isfinite(value) else None
    return tag("td", content, class_="number", data_label=name, data_value=known)


def _chart(found: list[_Form], name: str, row: Measure, main: Measure) -> Html | None:
    """Draw quality against a cost; forms that are alike in both are one point."""
    points = {(form.costs[name], form.quality): form for form in reversed(found)
              if math.isfinite(form.quality) and math.isfinite(form.costs[name])}  # fmt: skip
    if not (alike := list(points.values())):
        return None
    front = set(pareto([(form.costs[name], main.better * form.quality) for form in alike]))
    drawn = [
        chart.Point(form.rank, f"{form.label}, {form.name}", form.costs[name] * row.factor, form.quality * main.factor,
                    index in front, form.mark)
        for index, form in enumerate(alike)
    ]  # fmt: skip
    title = f"{main.label} against {row.label}"
    picture = chart.scatter(title, drawn, f"{row.heading}, less is better", main.heading)
    numbers = chart.table(
        ["form", row.label, main.label],
        [[f"{form.mark} {form.label}, {form.name}", row.text(form.costs[name], unit=True),
          main.text(form.quality, unit=True)] for form in alike],
    )  # fmt: skip
    return chart.figure(title, picture, numbers, class_="time" if row.timed else "")
