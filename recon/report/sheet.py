"""The table of results that papers print: a row for each configuration, marked where a difference holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from recon.measures import DASH, Measure
from recon.report.elements import Html, join, note, scrolled, tag
from recon.report.gains import BEFORE, USELESS, input_of
from recon.report.gather import Entry, Problem
from recon.report.inference import estimate
from recon.report.leaderboard import ARROWS, Column, columns
from recon.report.levels import Family
from recon.report.paired import Mark, marks

_COLUMNS = 8  # of a family: further measures are left out
_REMARKS = 8  # of configurations that are not useful; the others are counted
_MARKS = (
    "The best is {best} and the second {second}, each only where it is better than the next for certain: on the same "
    "images, by 95 % interval and by p < 0.05 after Holm's method; another seed may differ. *, ** and *** are worse "
    "than the first with p < 0.05, 0.01 and 0.001."
)


@dataclass(frozen=True)
class Cell:
    """A number as it is written, and how its entry stands."""

    text: str
    mark: Mark = field(default_factory=Mark)

    @property
    def signs(self) -> str:
        """The signs behind it: how surely it is worse than the first, and whether it is of no use."""
        p = self.mark.p
        stars = "" if p is None else "*" * (1 + (p < 0.01) + (p < 0.001))
        return stars + ("†" if (self.mark.remark or "").endswith(USELESS) else "")


@dataclass(frozen=True)
class Sheet:
    """A table.

    Attributes:
        title: what it is about.
        groups: the columns, under a common heading or under "".
        rows: the name of each row, and its cells.
        notes: sentences; {best} and {second} stand for how these are marked.
    """

    title: str
    groups: list[tuple[str, list[str]]]
    rows: list[tuple[str, list[Cell]]]
    notes: list[str]


def sheet(topic: Problem | Family) -> Sheet:
    """Make the table of a problem, its measures as columns, or of a family, its levels as columns."""
    return _of_levels(topic) if isinstance(topic, Family) else _of_measures(topic)


def _of_measures(problem: Problem) -> Sheet:
    shown = [column for column in columns(problem) if column.measure.role in ("quality", "cost")]
    shown = [column for column in shown if not column.measure.timed]  # which depend on the machine
    every = [_marks(problem, column, shown) for column in shown]
    rows = []
    for index, entry in enumerate(problem.entries):
        cells = [_cell(column, entry, of[index]) for column, of in zip(shown, every, strict=True)]
        rows.append((_named(entry, problem.entries), cells))
    if rows and (before := _before(problem, [column.measure for column in shown])):
        rows.insert(0, before)
    remarks = [remark for entry in problem.entries if (remark := _remark(problem, entry, entry.label))]
    notes = _notes([problem], remarks, [column.measure for column in shown])
    headings = [column.measure.heading + ARROWS[column.measure.better] for column in shown]
    return Sheet(problem.title, [("", headings)], rows, notes)


def _of_levels(family: Family) -> Sheet:
    methods, levels = family.methods, range(len(family.problems))
    by_level = [{c.key: c for c in columns(problem) if c.measure.role == "quality"} for problem in family.problems]
    keys = [key for key in by_level[0] if all(key in found for found in by_level)]
    keys = keys[: max(1, _COLUMNS // len(levels))]
    rows: list[tuple[str, list[Cell]]] = [(method.label, []) for method in methods]
    before: list[Cell] = []
    groups = []
    for key in keys:
        row = by_level[0][key].measure
        groups.append((f"{row.heading}{ARROWS[row.better]} at {' and '.join(family.keys)}", family.levels))
        for level in levels:
            problem, column = family.problems[level], by_level[level][key]
            of = _marks(problem, column, columns(problem))
            found = _before(problem, [column.measure])
            before.append(found[1][0] if found else Cell(DASH))
            for method, (_, cells) in zip(methods, rows, strict=True):
                index = method.entries.get(level)
                cells.append(Cell(DASH) if index is None else _cell(column, problem.entries[index], of[index]))
    remarks = [
        remark for method in methods for level, index in sorted(method.entries.items())
        if (remark := _remark(family.problems[level], family.problems[level].entries[index],
                              f"{method.label} at {family.at(level)}"))
    ]  # fmt: skip
    if any(cell.text != DASH for cell in before):
        rows.insert(0, (BEFORE, before))
    return Sheet(
        family.title, groups, rows, _notes(family.problems, remarks, [by_level[0][key].measure for key in keys])
    )


def _marks(problem: Problem, column: Column, shown: Sequence[Column]) -> list[Mark]:
    """Mark the entries by a column; none where the metric was computed in two ways, or is no quality."""
    if column.measure.role != "quality" or sum(other.key == column.key for other in shown) > 1:
        return [Mark()] * len(problem.entries)
    return marks(problem, column.measure)


def _cell(column: Column, entry: Entry, mark: Mark) -> Cell:
    value = column.of(entry)
    if value.mean != value.mean:
        return Cell(DASH)
    half = f" ± {column.measure.text(value.half, like=value.mean)}" if value.half else ""
    return Cell(column.measure.text(value.mean) + half, mark)


def _before(problem: Problem, rows: Sequence[Measure]) -> tuple[str, list[Cell]] | None:
    """The row of the degraded images; None where nothing is recorded of them."""
    if problem.main is None or problem.input is None:
        return None
    values = [problem.first.tested.get(row.before or "") for row in rows]
    cells = [Cell(DASH if value is None else row.text(value)) for row, value in zip(rows, values, strict=True)]
    return BEFORE, cells


def _remark(problem: Problem, entry: Entry, label: str) -> str | None:
    """Say that an entry is no better than its input; None where it is."""
    gained = entry.gain(problem.main)
    remark = gained.remark() if gained else None
    if problem.main is None or remark is None:
        return None
    mean = estimate(entry.of(f"test/{problem.main.name}")).mean
    return f"{label}: {problem.main.text(mean, unit=True)}, {remark}"


def _named(entry: Entry, among: Sequence[Entry]) -> str:
    """The label of an entry, with its number of seeds where others have more or fewer."""
    alike = len({len(other.runs) for other in among}) == 1
    return entry.label if alike else f"{entry.label} ({len(entry.runs)} seed{'s' * (len(entry.runs) > 1)})"


def _notes(problems: Sequence[Problem], remarks: Sequence[str], shown: Sequence[Measure]) -> list[str]:
    counts = sorted({len(entry.runs) for problem in problems for entry in problem.entries})
    notes = ["One seed each, so without an interval over seeds."] if counts == [1] else []
    if counts and counts[-1] > 1:
        seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        lone = " No interval where there is one." if counts[0] == 1 else ""
        notes.append(f"Mean over {seeds} seeds ± half of the 95 % confidence interval (Student's t).{lone}")
    others = [input_of(row) for row in shown if row.before and not row.before.endswith("_degraded")]
    notes += [f"Before the model: {' and '.join(others)}, else the images as they were."] if others else []
    if any(len(problem.entries) > 1 for problem in problems):
        same = all(problem.same_images for problem in problems)
        notes.append(_MARKS if same else "Not known to be tested on the same images, so that none is called the best.")
    if remarks:
        marked = ["† " * remark.endswith(USELESS) + remark for remark in remarks[:_REMARKS]]
        more = f"; and {len(remarks) - _REMARKS} more" if len(remarks) > _REMARKS else ""
        notes.append(f"{'; '.join(marked)}{more}.")
    return [*notes, *(problem.left_out for problem in problems if problem.left_out)]


def drawn(sheet: Sheet) -> Html:
    """Make the table for the page, with its notes."""
    groups = [tag("th", group, colspan=len(names), scope="colgroup", class_="group") for group, names in sheet.groups]
    names = [tag("th", name, scope="col", class_="number") for _, names in sheet.groups for name in names]
    head = tag("thead", tag("tr", tag("th", "configuration", scope="col", rowspan=2), groups), tag("tr", names))
    labels = [f"{group} {name}".strip() for group, names in sheet.groups for name in names]
    rows = [
        tag("tr", tag("th", name, scope="row"), [_drawn(*pair) for pair in zip(labels, cells, strict=True)])
        for name, cells in sheet.rows
    ]
    notes = [note(text.replace("{best}", "bold").replace("{second}", "underlined")) for text in sheet.notes]
    region = scrolled(tag("table", head, tag("tbody", rows), class_="cards sheet"), f"Results: {sheet.title}")
    return join([region, notes])


def _drawn(label: str, cell: Cell) -> Html:
    number, _, half = cell.text.partition(" ± ")
    strong = tag({1: "b", 2: "u"}.get(cell.mark.rank, "span"), number)
    more = [tag("small", f" ± {half}") if half else None, tag("sup", cell.signs) if cell.signs else None]
    return tag("td", tag("span", strong, more), class_="number", data_label=label)
