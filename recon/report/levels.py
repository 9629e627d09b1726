"""Problems that differ only in the level of one damage, such as the sigma of a noise: one table, as papers print it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from recon.report import chart, naming
from recon.report.elements import Html, note
from recon.report.gather import Problem
from recon.report.inference import estimate
from recon.report.run import Run, part


@dataclass(frozen=True)
class Method:
    """A row: one configuration, trained for each level or for one of them, and its entry at each level.

    Attributes:
        label: its name.
        entries: the index of its entry in the problem of each level, by the index of that.
    """

    label: str
    entries: dict[int, int]


@dataclass(frozen=True)
class Family:
    """Problems with the same test images whose damage differs in its level alone, the lowest level first.

    Attributes:
        problems: at least two.
        keys: what differs of the degradation.
    """

    problems: list[Problem]
    keys: list[str]

    @property
    def title(self) -> str:
        """Describe it in a few words."""
        first = self.problems[0]
        fixed = {key: value for key, value in naming.levels(first.first.folder).items() if key not in self.keys}
        damage = naming.choice(first.first.folder, "degradation") or "an unknown damage"
        more = f" ({', '.join(f'{key} {level}' for key, level in fixed.items())})" if fixed else ""
        return f"{first.described(damage + more)}, by {' and '.join(self.keys)}"

    @property
    def levels(self) -> list[str]:
        """Write the level of each problem."""
        damages = (_damage(problem) for problem in self.problems)
        if len(self.keys) == 1:
            return [naming.as_text(damage[self.keys[0]]) for damage in damages]
        return [", ".join(f"{key} {naming.as_text(damage[key])}" for key in self.keys) for damage in damages]

    def at(self, index: int) -> str:
        """Write the level of a problem with what it is of."""
        level = self.levels[index]
        return f"{self.keys[0]} {level}" if len(self.keys) == 1 else level

    @cached_property
    def methods(self) -> list[Method]:
        """Return the rows, those with the most levels first, then the best."""
        levels = {f"degradation.{key}" for key in self.keys}
        # By whether a row was trained for each of its levels, and by its keys.
        rows: dict[tuple[bool, str], tuple[Run, Mapping[str, Any], dict[int, int]]] = {}
        elsewhere: set[str] = set()  # what was tested at other levels than it was trained for
        for number, problem in enumerate(self.problems):
            for index, entry in enumerate(problem.entries):
                flat, damage = entry.runs[0].flat, _damage(problem)
                fits = all(flat.get(f"degradation.{key}") == damage[key] for key in self.keys)
                shared = {key: value for key, value in flat.items() if key not in levels}
                for own, keys in ((True, shared), (False, flat)) if fits else ((False, flat),):
                    rows.setdefault((own, _text(keys)), (entry.runs[0], keys, {}))[2][number] = index
                if not fits:
                    elsewhere.add(_text(flat))
        kept = {name: row for name, row in rows.items() if name[0] or name[1] in elsewhere}
        whole = [entries for _, _, entries in kept.values()]
        kept = {name: row for name, row in kept.items() if not any(_is_part(row[2], entries) for entries in whole)}
        named = naming.names([run for run, _, _ in kept.values()], [keys for _, keys, _ in kept.values()])
        methods = [
            Method(label if own else self._trained_on(label, keys), entries)
            for (label, _), ((own, _), (_, keys, entries)) in zip(named, kept.items(), strict=True)
        ]
        return sorted(methods, key=lambda method: (-len(method.entries), -self._score(method), method.label))

    def _trained_on(self, label: str, keys: Mapping[str, Any]) -> str:
        """Add to a label for what level a model of one row was trained, where it does not say so."""
        levels = [f"{key} {naming.as_text(keys.get(f'degradation.{key}'))}" for key in self.keys]
        return label if "trained on" in label else f"{label} · trained on {', '.join(levels)}"

    def _score(self, method: Method) -> float:
        main = self.problems[0].main
        assert main is not None
        means = [self.mean(method, number) for number in method.entries]
        return main.better * sum(means) / len(means)

    def mean(self, method: Method, number: int) -> float:
        """Return the mean of the main measure of a row at a level; NaN where it was not tested there."""
        problem = self.problems[number]
        if problem.main is None or number not in method.entries:
            return math.nan
        return estimate(problem.entries[method.entries[number]].of(f"test/{problem.main.name}")).mean

    def curve(self) -> Html | None:
        """Draw the main measure of the first rows against the level; None below three levels."""
        main, methods = self.problems[0].main, self.methods[:8]
        if main is None or len(self.keys) > 1 or len(self.problems) < 3:
            return None
        x = [float(_damage(problem)[self.keys[0]]) for problem in self.problems]
        lines = [
            chart.Line(rank, method.label, x, [self.mean(method, k) * main.factor for k in range(len(x))])
            for rank, method in enumerate(methods, 1)
        ]
        inputs = [problem.input for problem in self.problems]
        if all(value is not None for value in inputs):
            lines.append(chart.Line(0, "before the model", x, [(value or 0) * main.factor for value in inputs]))
        title = f"{main.label} against {self.keys[0]}"
        drawn = chart.lines(title, lines, self.keys[0], main.heading)
        legend = chart.legend([(rank, method.label) for rank, method in enumerate(methods, 1)])
        rows = [[f"{line.rank or ''} {line.label}".strip(), *(main.text(v / main.factor) for v in line.y)]
                for line in lines]  # fmt: skip
        dashed = note("The dashed line is before the model.") if len(lines) > len(methods) else None
        return chart.figure(title, drawn, chart.table(["configuration", *self.levels], rows), legend, dashed)


Topic = Problem | Family  # what a part of the page is about


def topics(problems: Sequence[Problem]) -> list[Topic]:
    """Join problems that differ only in the level of their damage, each where its first stands."""
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        damage = {key: value for key, value in _damage(problem).items() if not _is_level(value)}
        convention = problem.main and [problem.main.name, problem.first.convention(problem.main.name)]
        apart = None if problem.main and problem.entries and _damage(problem) and problem.digest else problem.title
        named = [naming.choice(problem.first.folder, "degradation"), sorted(_damage(problem))]
        groups.setdefault(_text([problem.kind, problem.digest, damage, named, convention, apart]), []).append(problem)
    return [topic for group in groups.values() for topic in _joined(group)]


def _joined(problems: list[Problem]) -> list[Topic]:
    """Make a family of problems that differ in numbers of their damage; others of the same damage stay apart."""
    damages = [_damage(problem) for problem in problems]
    keys = [key for key in damages[0] if len({_text(damage[key]) for damage in damages}) > 1]
    if len(problems) == 1 or len(set(map(_text, damages))) < len(problems):
        return list(problems)
    return [Family(sorted(problems, key=lambda problem: [_damage(problem)[key] for key in keys]), keys)]


def _damage(problem: Problem) -> dict[str, Any]:
    return part(problem.first.folder.config, "degradation") if problem.kind != "generate" else {}


def _is_level(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_part(entries: dict[int, int], other: dict[int, int]) -> bool:
    """Whether a row of one level alone is a part of another row."""
    return len(entries) == 1 and entries.items() < other.items()


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
