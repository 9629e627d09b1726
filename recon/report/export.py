"""The leaderboards as Markdown and LaTeX: means with their intervals, the best in bold."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from recon.measures import DASH
from recon.report.gather import Problem
from recon.report.inference import Estimate
from recon.report.leaderboard import ARROWS, Column, columns
from recon.streams import printable

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "±": r"$\pm$", "–": "--", "·": r"$\cdot$",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "<": r"$<$", ">": r"$>$", "|": r"$|$", "…": r"\dots{}",
    "`": r"\textasciigrave{}", "�": "?",
    "[": "{[}", "]": "{]}", "*": "{*}",  # after the end of a row they would be its options
}  # fmt: skip
_NOTE = "Mean ± half of the 95 % confidence interval over seeds (Student's t); no interval for one seed."


def markdown(problems: Sequence[Problem]) -> str:
    """Write a table for each problem."""
    parts = ["# Leaderboard\n"] if problems else ["No finished run.\n"]
    for problem in problems:
        shown = _shown(problem)
        head, *rows = (f"| {' | '.join(cells)} |\n" for cells in _rows(problem, shown, "**{}**", _for_markdown))
        table = f"{head}|---|{'---:|' * (1 + len(shown))}\n{''.join(rows)}"
        parts.append(f"\n## {_for_markdown(problem.title)}\n\n{table}\n{_for_markdown(_note(problem))}\n")
    return "".join(parts)


def latex(problems: Sequence[Problem]) -> str:
    """Write a table of the booktabs package for each problem."""
    parts = ["% \\usepackage{booktabs}\n"]
    for problem in problems:
        shown = _shown(problem)
        cells_of = _rows(problem, shown, "\\textbf{{{}}}", _for_latex)
        head, *rows = (f"    {' & '.join(cells)} \\\\\n" for cells in cells_of)
        parts += [
            "\\begin{table}\n  \\centering\n",
            f"  \\caption{{{_for_latex(problem.title)}. {_for_latex(_note(problem))}}}\n",
            f"  \\begin{{tabular}}{{l{'r' * (1 + len(shown))}}}\n    \\toprule\n{head}    \\midrule\n",
            *rows,
            "    \\bottomrule\n  \\end{tabular}\n\\end{table}\n",
        ]
    return "".join(parts)


def _shown(problem: Problem) -> list[Column]:
    """The columns that do not depend on the machine's speed."""
    return [column for column in columns(problem) if not column.measure.timed]


def _rows(problem: Problem, shown: Sequence[Column], bold: str, escaped: Callable[[str], str]) -> list[list[str]]:
    """The cells of the head and of each entry, escaped, the best of a column in bold."""
    estimates = [[column.of(entry) for column in shown] for entry in problem.entries]
    headings = [column.measure.heading + ARROWS[column.measure.better] for column in shown]
    rows = [[escaped(text) for text in ("configuration", "seeds", *headings)]]
    for entry, values in zip(problem.entries, estimates, strict=True):
        cells = [escaped(entry.label), str(len(entry.runs))]
        for column, value, *others in zip(shown, values, *estimates, strict=True):
            best = _is_best(column, value, others)
            cells.append((bold if best else "{}").format(escaped(_cell(column, value))))
        rows.append(cells)
    return rows


def _note(problem: Problem) -> str:
    return " ".join(filter(None, (_NOTE, problem.left_out)))


def _cell(column: Column, value: Estimate) -> str:
    if value.mean != value.mean:
        return DASH
    half = f" ± {column.measure.text(value.half, like=value.mean)}" if value.half else ""
    return column.measure.text(value.mean) + half


def _is_best(column: Column, value: Estimate, every: Sequence[Estimate]) -> bool:
    sign = column.measure.better
    means = [sign * other.mean for other in every if other.mean == other.mean]
    return bool(sign) and len(means) > 1 and sign * value.mean == max(means) != min(means)


def _for_markdown(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|#~&$])", r"\\\1", _in_a_line(text))


def _for_latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in _in_a_line(text))


def _in_a_line(text: str) -> str:
    """Write a text in one line: any white space is one blank."""
    return printable(" ".join(text.split()))
