"""What adversarial trainings said of their health, and what to change."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from recon.health import ADVICE, EVERY, HEALTHY, STATES
from recon.report import chart
from recon.report.elements import Html, note, scrolled, section, table, tag
from recon.report.gather import Problem
from recon.report.run import Run

_SHOWN = 8  # entries, as many as there are colours


def health(problem: Problem) -> Html | None:
    """The state of each training at its end, since when, its returns, and how alike its images became."""
    watched = [(rank, entry.label, run) for rank, entry in enumerate(problem.entries, 1) for run in entry.runs
               if {"step", "state"} <= run.health.keys()]  # fmt: skip
    if not watched:
        return None
    rows = [
        tag("tr", tag("td", chart.badge(rank), " ", label, data_label="configuration"),
            tag("td", run.seed, data_label="seed"),
            *(tag("td", text, data_label=name) for name, text in _told(run).items()))
        for rank, label, run in watched
    ]  # fmt: skip
    head = ["configuration", "seed", *_told(watched[0][2])]
    text = (
        f"Read every {EVERY} steps from what a training computes anyway; docs/generation.md says how often it is right."
    )
    told = scrolled(table(head, rows), "health of the trainings")
    return section("Health of the trainings", told, tag("div", _diversity(watched), class_="charts"), note(text))


def _diversity(watched: Sequence[tuple[int, str, Run]]) -> Html | None:
    """How alike the images of a class became, of the first run of each entry."""
    first = {rank: (label, run.health) for rank, label, run in reversed(watched) if "diversity" in run.health}
    lines = [chart.Line(rank, label, signs["step"].tolist(), signs["diversity"].tolist())
             for rank, (label, signs) in sorted(first.items())[:_SHOWN]]  # fmt: skip
    if not any(np.isfinite(line.y).any() for line in lines):
        return None
    steps = sorted({step for line in lines for step in line.x})
    shown = steps if len(steps) <= 12 else [steps[round(k * (len(steps) - 1) / 11)] for k in range(12)]
    by_step = [dict(zip(line.x, line.y, strict=True)) for line in lines]
    rows = [[f"{line.rank} {line.label}", *(f"{found.get(step, math.nan):.2f}" for step in shown)]
            for line, found in zip(lines, by_step, strict=True)]  # fmt: skip
    title = "Diversity within classes; that of clean images is 1"
    numbers = chart.table(["configuration", *(f"step {step:g}" for step in shown)], rows)
    return chart.figure(title, chart.lines(title, lines, "step", "diversity", whole=True), numbers)


def _told(run: Run) -> dict[str, str]:
    """Write, by the heads of their columns, what a training said."""
    steps, states = run.health["step"], run.health["state"]
    named = [STATES[int(state)] if state in range(len(STATES)) else HEALTHY for state in states.tolist()]
    ill = next((f"{step:,.0f}" for step, state in zip(steps.tolist(), named, strict=True) if state != HEALTHY), "–")
    share = sum(state == HEALTHY for state in named) / len(named)
    returns = [f"from {step:,.0f} to {back:,.0f}" for step, back in zip(
        *(run.returns.get(name, np.array([])).tolist() for name in ("step", "back")), strict=False)]  # fmt: skip
    return {
        "at the end": named[-1],
        "healthy looks": f"{100 * share:.0f} %",
        "first ill at step": ill,
        "returns": "; ".join(returns[:20]) or "–",
        "what to change": ADVICE.get(named[-1], "–"),
    }
