"""`action=curve run=<run> degradation=noise severities=0:0.5:11`: how well trained models do as damage grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from recon.actions.base import Action
from recon.errors import InputError

if TYPE_CHECKING:
    from recon.curve.compare import Curve as Found
    from recon.curve.damage import Damage


@dataclass
class Curve(Action):
    """Measure, compare and draw; what its keys mean stands in `conf/action/curve.yaml`."""

    needs_run: ClassVar[bool] = True
    leaves_a_record: ClassVar[bool] = False
    takes: ClassVar[tuple[str, ...]] = (
        "seed", "task", "data", "degradation", "protocol", "trainer", "accelerator", "allow_network",
    )  # fmt: skip

    run: str | int | None
    beside: list[str] | str | None
    severities: str | list[float] | None
    level: str | None
    corruption: str | None
    restorer: str | None
    output: str | None

    def __post_init__(self) -> None:
        if (self.severities is None) == (self.corruption is None):
            raise InputError("severities: give either severities=0:0.5:11, of a degradation, or corruption=cifar10_c")

    def __call__(self, config: dict[str, Any], folder: Path, about: Mapping[str, Any]) -> None:
        """Measure, write the picture and the tables, and say what they come to."""
        from recon.curve import compare
        from recon.curve.measure import MEASURES
        from recon.runs.files import write_csv, write_image

        damage = self._damage(config, about)
        labels, table, kind, classes = self._measured(config, damage)
        found = compare.curves(labels, table, damage)
        target = Path(self.output).expanduser() if self.output else Path(config["run"]) / f"curve_{damage.name}"
        words = _words(found, damage, self.restorer is not None)
        write_csv(target.with_suffix(".csv"), compare.rows(found, damage))
        if damage.kinds:
            write_csv(target.with_name(f"{target.name}_by_kind.csv"), compare.by_kind(labels, table, damage))
            _print_by_kind(compare.by_kind(labels, table, damage), kind)
        if kind == "recognise":
            rows = compare.by_class(labels, table, damage, classes)
            write_csv(target.with_name(f"{target.name}_by_class.csv"), rows)
        images = len(next(iter(table[0][0].values())))
        write_image(target.with_suffix(".png"), _picture(found, damage, MEASURES[kind], images))
        for sentence in words:
            print(sentence)
        print(f"curve: {target.with_suffix('.png')} and {target.with_suffix('.csv')}", flush=True)

    def _damage(self, config: dict[str, Any], about: Mapping[str, Any]) -> Damage:
        from recon.curve.damage import of_corruptions, of_levels

        if self.corruption is not None:
            return of_corruptions(self.corruption)
        choice = about["choices"].get("degradation", "degradation")
        return of_levels(config["degradation"], choice, self.level, self.severities or "")

    def _measured(self, config: dict[str, Any], damage: Damage) -> tuple[list[str], list[Any], str, Sequence[str]]:
        """Load the models and measure them at every point, with a line of progress: names, table, kind and classes."""
        from rich.console import Console
        from rich.progress import Progress

        from recon import build
        from recon.curve.measure import MEASURES, Method, measured, of_runs, restorer
        from recon.restore.plan import run_folder

        first = build.ready(config)
        if first.kind not in MEASURES:
            raise InputError(f"run: {config['run']} generates images, which have no damage; choose one of a model that "
                             "recognises or restores")  # fmt: skip
        if self.restorer is not None and first.kind != "recognise":
            raise InputError("restorer: it comes before a model that recognises, and this one restores; leave it out")
        scales = {point.operator.scale for point in damage.points} - {first.facts.get("scale", 1)}
        if scales:
            raise InputError(f"degradation: it makes images {max(scales)} times smaller, for which this run was not "
                             "trained; set degradation.upsample=bicubic, or choose another")  # fmt: skip
        beside = [self.beside] if isinstance(self.beside, str) else self.beside or []
        methods = [
            Method(Path(config["run"]).name, first),
            *of_runs([run_folder(run, "beside") for run in beside], first),
        ]
        if self.restorer is not None:
            restore = restorer(self.restorer, first, damage)
            methods.append(Method(f"{methods[0].label} after {Path(self.restorer).name}", first, restore))
        for method in methods:
            method.module.to(first.device)
        task = build.task(config)
        task.tested_only = True
        data = build.data(config, task, damage.points[-1].operator, first)
        with Progress(console=Console(stderr=True), transient=True) as progress:
            bar = progress.add_task("curve", total=len(damage.points))
            limit = config["trainer"].get("limit_test_batches")
            table = measured(methods, data, damage, limit, lambda: progress.advance(bar))
        return _numbered([method.label for method in methods]), table, first.kind, task.class_names


def _numbered(labels: Sequence[str]) -> list[str]:
    """Number labels that are the same, as of run folders of one name in different sweeps."""
    return [label if labels.count(label) == 1 else f"{label} ({labels[:index].count(label) + 1})"
            for index, label in enumerate(labels)]  # fmt: skip


def _words(found: Sequence[Sequence[Found]], damage: Damage, restores: bool) -> list[str]:
    """Say what the areas come to, and whether restoring helps."""
    from recon.curve.compare import areas, helps
    from recon.measures import measure

    main = [of[0] for of in found]
    row, levels = measure(main[0].measure), damage.severities
    said = []
    over = f"{damage.label} {levels[0]:g} to {levels[-1]:g}"
    if damage.kinds:
        over = f"{len(damage.kinds)} corruptions of {damage.name} at severities 1 to {levels[-1]:g}"
    for area in areas(main, damage):
        text = (f"{area.label}: mean {row.label} over {over} is "
                f"{row.text(area.mean, unit=True)} (95 % interval {row.interval(area.low, area.high)})")  # fmt: skip
        if area.more:
            mean, low, high = (row.text(value) for value in area.more)
            text += f", {mean} {row.points} more than {main[0].label} ({low} to {high})"
        said.append(f"{text}.")
    if restores and main[-1].values is not None and len(main[-1].values) > 1:
        said.append(helps(main[0], main[-1], damage))
    return said


def _picture(found: Sequence[Sequence[Found]], damage: Damage, names: Sequence[str], images: int) -> Any:
    from recon.curve.compare import differences
    from recon.curve.plot import Line, Panel, plot
    from recon.measures import measure

    panels = []
    for index, name in enumerate(names):
        row = measure(name)
        lines = []
        for number, of_method in enumerate(found):
            curve = of_method[index]
            band = [None if end is None else (end * row.factor).tolist() for end in (curve.low, curve.high)]
            lines.append(Line((curve.mean * row.factor).tolist(), number, low=band[0], high=band[1]))
        panels.append(Panel(row.heading, lines))
    row = measure(names[0])
    if compared := differences([of[0] for of in found]):
        lines = [Line(*((by.mean * row.factor).tolist(), number), (by.low * row.factor).tolist(),
                      (by.high * row.factor).tolist()) for number, by in enumerate(compared, 1)]  # fmt: skip
        panels.append(
            Panel(f"{row.label} less that of {found[0][0].label} ({row.points}), same images", lines, zero=True)
        )
    note = f"Bands: 95 % intervals over the same {images:,} test images, each under the same draws."
    return plot(panels, damage.severities, damage.label, [of[0].label for of in found], note)


def _print_by_kind(rows: Sequence[Mapping[str, Any]], kind: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from recon.measures import measure

    row = measure("accuracy" if kind == "recognise" else "psnr")
    columns = list(dict.fromkeys(name for one in rows for name in one))
    table = Table(*columns, box=None, title=row.heading)
    for one in rows:
        table.add_row(*(row.text(one[name]) if isinstance(one.get(name), float) else str(one.get(name, ""))
                        for name in columns))  # fmt: skip
    Console().print(table)
