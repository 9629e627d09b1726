"""The tables of results as Markdown and LaTeX."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from recon.report.sheet import Sheet
from recon.streams import printable

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "±": r"$\pm$", "–": "--", "·": r"$\cdot$",
    "†": r"$^{\dagger}$", "…": r"\dots{}", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "<": r"$<$",
    ">": r"$>$", "|": r"$|$", "`": r"\textasciigrave{}", "�": "?",
    "[": "{[}", "]": "{]}", "*": "{*}",  # after the end of a row they would be its options
}  # fmt: skip
_NARROW = 4  # columns of numbers that fit one column of text


def markdown(sheets: Sequence[Sheet]) -> str:
    """Write the tables."""
    parts = ["# Results\n"] if sheets else ["No finished run.\n"]
    for sheet in sheets:
        titles = [f"{group} {name}".strip() for group, names in sheet.groups for name in names]
        lines = [["configuration", *titles], *([name, *cells] for name, cells in _cells(sheet, "**{}**", "*{}*", _md))]
        head, *rows = (f"| {' | '.join(cells)} |\n" for cells in [[_md(text) for text in lines[0]], *lines[1:]])
        table = f"{head}|---|{'---:|' * len(titles)}\n{''.join(rows)}"
        parts.append(f"\n## {_md(sheet.title)}\n\n{table}\n{_md(_said(sheet, 'bold', 'in italics'))}\n")
    return "".join(parts)


def latex(sheets: Sequence[Sheet]) -> str:
    """Write the tables by the package booktabs."""
    parts = ["% \\usepackage{booktabs}\n"]
    labels: Counter[str] = Counter()
    for sheet in sheets:
        slug = re.sub(r"[^a-z0-9]+", "-", sheet.title.lower()).strip("-")[:60] or "results"
        labels[slug] += 1
        label = slug if labels[slug] == 1 else f"{slug}-{labels[slug]}"
        count = sum(len(names) for _, names in sheet.groups)
        kind = "table*" if count > _NARROW else "table"
        rows = [
            " & ".join([name, *cells]) for name, cells in _cells(sheet, r"\textbf{{{}}}", r"\underline{{{}}}", _tex)
        ]
        parts += [
            f"\\begin{{{kind}}}\n  \\centering\n",
            f"  \\caption{{{_tex(sheet.title)}. {_tex(_said(sheet, 'bold', 'underlined'))}}}\n",
            f"  \\label{{tab:{label}}}\n",
            f"  \\begin{{tabular}}{{l{'r' * count}}}\n    \\toprule\n{_head(sheet)}    \\midrule\n",
            *(f"    {row} \\\\\n" for row in rows),
            f"    \\bottomrule\n  \\end{{tabular}}\n\\end{{{kind}}}\n",
        ]
    return "".join(parts)


def _head(sheet: Sheet) -> str:
    """The head of a table: the names of its columns, under those of their groups."""
    names = " & ".join(["configuration", *(_tex(name) for _, names in sheet.groups for name in names)])
    if not any(group for group, _ in sheet.groups):
        return f"    {names} \\\\\n"
    groups, rules, start = [], [], 2
    for group, columns in sheet.groups:
        groups.append(f"\\multicolumn{{{len(columns)}}}{{c}}{{{_tex(group)}}}")
        rules.append(f"\\cmidrule(lr){{{start}-{start + len(columns) - 1}}}")
        start += len(columns)
    return f"    & {' & '.join(groups)} \\\\\n    {' '.join(rules)}\n    {names} \\\\\n"


def _cells(sheet: Sheet, best: str, second: str, escaped: Callable[[str], str]) -> Iterator[tuple[str, list[str]]]:
    """The name and the cells of each row, escaped."""
    for name, cells in sheet.rows:
        forms = [{1: best, 2: second}.get(cell.mark.rank, "{}") for cell in cells]
        signs = [escaped(cell.signs) for cell in cells]
        yield escaped(name), [form.format(escaped(cell.text)) + sign
                              for form, cell, sign in zip(forms, cells, signs, strict=True)]  # fmt: skip


def _said(sheet: Sheet, best: str, second: str) -> str:
    return " ".join(sheet.notes).replace("{best}", best).replace("{second}", second)


def _md(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|#~&$])", r"\\\1", _in_a_line(text))


def _tex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in _in_a_line(text))


def _in_a_line(text: str) -> str:
    """Write a text in one line: any white space is one blank."""
    return printable(" ".join(text.split()))
