"""The leaderboards as Markdown and LaTeX: means with their intervals, the best in bold."""

from __future__ import annotations

import re
from collections.abc import Sequence

from recon.measures import DASH
from recon.report.gather import Problem
from recon.report.leaderboard import Column, columns
from recon.report.statistics import Estimate
from recon.streams import printable

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "±": r"$\pm$", "–": "--", "·": r"$\cdot$",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "<": r"$<$", ">": r"$>$", "|": r"$|$", "…": r"\dots{}",
    "`": r"\textasciigrave{}", "�": "?",
    "[": "{[}", "]": "{]}", "*": "{*}",  # behind the end of a row they would be its options
}  # fmt: skip
_NOTE = "Mean ± half of the 95 % confidence interval over seeds (Student's t); no interval for one seed."


def markdown(problems: Sequence[Problem]) -> str:
    """Write a table for each problem."""
    parts = ["# Leaderboard\n"] if problems else ["No finished run.\n"]
    for problem in problems:
        found, rows = _rows(problem)
        header = ["configuration", "seeds", *(_heading(column) for column in found)]
        parts.append(f"\n## {_for_markdown(problem.title)}\n\n")
        parts.append("| " + " | ".join(map(_for_markdown, header)) + " |\n")
        parts.append("|---|" + "---:|" * (len(header) - 1) + "\n")
        for label, seeds, cells in rows:
            written = [f"**{_for_markdown(text)}**" if best else _for_markdown(text) for text, best in cells]
            parts.append("| " + " | ".join([_for_markdown(label), str(seeds), *written]) + " |\n")
        parts.append(f"\n{_for_markdown(_note(problem))}\n")
    return "".join(parts)


def latex(problems: Sequence[Problem]) -> str:
    """Write a table of the booktabs package for each problem."""
    parts = ["% \\usepackage{booktabs}\n"]
    for problem in problems:
        found, rows = _rows(problem)
        header = ["configuration", "seeds", *(_heading(column) for column in found)]
        parts.append("\\begin{table}\n  \\centering\n")
        parts.append(f"  \\caption{{{_for_latex(problem.title)}. {_for_latex(_note(problem))}}}\n")
        parts.append(f"  \\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}\n    \\toprule\n")
        parts.append("    " + " & ".join(map(_for_latex, header)) + " \\\\\n    \\midrule\n")
        for label, seeds, cells in rows:
            written = [f"\\textbf{{{_for_latex(text)}}}" if best else _for_latex(text) for text, best in cells]
            parts.append("    " + " & ".join([_for_latex(label), str(seeds), *written]) + " \\\\\n")
        parts.append("    \\bottomrule\n  \\end{tabular}\n\\end{table}\n")
    return "".join(parts)


def _rows(problem: Problem) -> tuple[list[Column], list[tuple[str, int, list[tuple[str, bool]]]]]:
    """The columns that do not depend on the machine's speed, and each configuration's cells with whether it is best."""
    found = [column for column in columns(problem) if not column.measure.timed]
    estimates = [[column.of(each) for column in found] for each in problem.configurations]
    rows = []
    for each, told in zip(problem.configurations, estimates, strict=True):
        cells = [
            (_cell(column, value), _is_best(column, value, [row[k] for row in estimates]))
            for k, (column, value) in enumerate(zip(found, told, strict=True))
        ]
        rows.append((each.label, len(each.runs), cells))
    return found, rows


def _note(problem: Problem) -> str:
    return " ".join(filter(None, (_NOTE, problem.left_out)))


def _heading(column: Column) -> str:
    return column.measure.heading + {1: " ↑", -1: " ↓", 0: ""}[column.measure.better]


def _cell(column: Column, value: Estimate) -> str:
    if value.mean != value.mean:
        return DASH
    half = f" ± {column.measure.text(value.half, like=value.mean)}" if value.half else ""
    return column.measure.text(value.mean) + half


def _is_best(column: Column, value: Estimate, of: Sequence[Estimate]) -> bool:
    sign = column.measure.better
    known = [sign * other.mean for other in of if other.mean == other.mean]
    return bool(sign) and len(known) > 1 and sign * value.mean == max(known) != min(known)


def _for_markdown(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|#~&$])", r"\\\1", _in_a_line(text))


def _for_latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in _in_a_line(text))


def _in_a_line(text: str) -> str:
    """Write a text in one line: any white space, of whatever kind, is one blank."""
    return printable(" ".join(text.split()))
