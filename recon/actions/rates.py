"""`action=rates run=<codec> beside=<codecs>`: bits per pixel against quality, beside JPEG, WebP and PCA."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from recon.actions.base import Action
from recon.errors import InputError
from recon.ranges import require_whole
from recon.report.rates import MEASURES, OURS, WAYS, in_words

if TYPE_CHECKING:
    from recon.codec.points import Point
    from recon.codec.transform import Pixels, Transform
    from recon.data.datamodule import DataModule
    from recon.pair import Pair

_FITTED = 1 << 24  # pixels that components are fitted to, and counted in


@dataclass
class Rates(Action):
    """Measure and compare codecs; what its keys mean stands in `conf/action/rates.yaml`."""

    needs_run: ClassVar[bool] = True
    leaves_a_record: ClassVar[bool] = False
    takes: ClassVar[tuple[str, ...]] = ("task", "data", "logger", "allow_network")

    run: str | int | None
    beside: list[str] | str | None
    images: int | None
    output: str | None

    def __post_init__(self) -> None:
        if self.images is not None:
            require_whole("images", self.images, 2, 1 << 30)

    def __call__(self, config: dict[str, Any], folder: Path, about: Mapping[str, Any]) -> None:
        """Measure, write the picture and the tables, and say what they come to."""
        from recon.codec.file import compress
        from recon.codec.points import of_run
        from recon.codec.rivals import Components, jpeg, webp
        from recon.dashboards.threaded import log_after
        from recon.runs.files import write_csv, write_image

        codecs, data = self._codecs(config)
        tested = _some(data, self.images)
        for number, image in enumerate(tested):
            for transform in codecs.values():
                transform.require_size(f"task: test image {number}", (image.shape[1], image.shape[2]))
        header = compress(next(iter(codecs.values())), tested[:1], ["0"]).header
        components = Components(_first(data.training_images()), _first(data.val_dataloader()), header)
        methods = {
            OURS: [of_run(name, transform, tested) for name, transform in codecs.items()],
            "PCA": components.points(tested),
            "JPEG": jpeg(tested),
            "WebP": webp(tested),
        }
        target = Path(self.output).expanduser() if self.output else Path(config["run"]) / "rates"
        found = _compared(methods)
        write_csv(target.with_suffix(".csv"), _rows(methods))
        write_csv(target.with_name(f"{target.name}_compared.csv"), found)
        picture = _picture(methods)
        write_image(target.with_suffix(".png"), picture)
        _print(found, len(codecs))
        print(f"rates: {target.with_suffix('.png')} and {target.with_suffix('.csv')}", flush=True)
        log_after(config["logger"], Path(str(config["run"])), {"rates": picture})

    def _codecs(self, config: dict[str, Any]) -> tuple[dict[str, Transform], DataModule]:
        """Load the codecs by the names of their runs, and the images of the first one's task."""
        from recon import build, runs
        from recon.codec.transform import Transform
        from recon.degradations import Identity

        first = build.trained(Path(str(config["run"])))
        data = build.data(config, build.task(config), Identity(), first)
        own = Path(str(config["run"]))
        codecs, trained_on, channels = {own.name: Transform(first)}, first.trained_on, first.facts["channels"]
        beside = [self.beside] if isinstance(self.beside, str) else self.beside or []
        for path in [folder.path for folder in runs.find(",".join(beside))] if beside else []:
            if path.resolve() == own.resolve():
                continue
            module = build.trained(path, "beside")
            if (module.trained_on, module.facts["channels"]) != (trained_on, channels):
                raise InputError(f"beside: {path} was trained on {module.trained_on}, and the first on {trained_on}; "
                                 "choose runs of one task")  # fmt: skip
            try:
                transform = Transform(module)
            except InputError as error:
                raise InputError(f"beside: {path}: {str(error).removeprefix('run: ')}") from error
            codecs[path.name if path.name not in codecs else str(path)] = transform
        return codecs, data


def _some(data: DataModule, count: int | None) -> list[Pixels]:
    """Return test images (C,H,W), at most so many, drawn by their indices."""
    from recon import keyed

    images = [image for pair in _pairs(data.test_dataloader()) for image in _pixels(pair)]
    chosen = keyed.permutation(0, "rates", 0, len(images))[:count].sort().values
    return [images[index] for index in chosen.tolist()]


def _first(loader: Any) -> list[Pixels]:
    """Return the first images (C,H,W) of a split."""
    images: list[Pixels] = []
    for pair in _pairs(loader):
        images += _pixels(pair)
        if sum(image.size for image in images) > _FITTED:
            break
    return images


def _pairs(loader: Any) -> Iterator[Pair]:
    from recon.console import tracked

    return tracked(loader, "read")


def _pixels(pair: Pair) -> list[Pixels]:
    return list((pair.clean * 255).round().byte().cpu().numpy())


def _compared(methods: Mapping[str, Sequence[Point]]) -> list[dict[str, Any]]:
    """Compare the codecs with each rival: a row for each, each way to write files and each measure."""
    from recon.codec.bjontegaard import compared
    from recon.console import tracked

    wanted = [(rival, way, name) for rival in methods if rival != OURS for way in WAYS for name in MEASURES]
    return [
        {"rival": rival, "files": way, "measure": name,
         **compared(methods[rival], methods[OURS], way, name)._asdict()}
        for rival, way, name in tracked(wanted, "compare")
    ]  # fmt: skip


def _rows(methods: Mapping[str, Sequence[Point]]) -> list[dict[str, Any]]:
    """Return the table of all points, each a mean over the images with its 95 % interval."""
    from recon.report.inference import mean_interval

    rows = []
    for name, points in methods.items():
        for point in points:
            row: dict[str, Any] = {"method": name, "setting": point.label, "images": len(point.quality["psnr"])}
            columns = {f"bits_per_pixel_{way}": rates for way, rates in point.rates.items()} | point.quality
            for column, values in columns.items():
                low, high = mean_interval(values)
                row |= {column: values.mean(), f"{column}_low": float(low), f"{column}_high": float(high)}
            rows.append(row)
    return rows


def _picture(methods: Mapping[str, Sequence[Point]]) -> Any:
    from recon.curve.plot import Line, Panel, plot
    from recon.measures import measure

    panels = []
    for name in MEASURES:
        for way, words in WAYS.items():
            lines = []
            for number, points in enumerate(methods.values()):
                places = sorted((float(p.rates[way].mean()), float(p.quality[name].mean())) for p in points)
                lines.append(Line([y for _, y in places], number, x=[x for x, _ in places]))
            panels.append(Panel(f"{measure(name).heading}, {words}", lines))
    count = len(next(iter(methods.values()))[0].quality["psnr"])
    note = f"Means over the same {count:,} test images; all bytes count. The nearer to the top left the better."
    return plot(panels, [], "bits per pixel", list(methods), note, log=True)


def _print(found: Sequence[Mapping[str, Any]], codecs: int) -> None:
    from rich.console import Console
    from rich.table import Table

    from recon.measures import measure

    named = {"rate at equal quality, less that of": "", **{
        f"{name}, {way}": f"{measure(name).label}, {words}" for name in MEASURES for way, words in WAYS.items()
    }}  # fmt: skip
    table = Table(*(words or head for head, words in named.items()),
                  title="mean over a curve (BD-rate)" if codecs > 1 else "at the quality of the codec")  # fmt: skip
    for rival in dict.fromkeys(row["rival"] for row in found):
        cells = {f"{row['measure']}, {row['files']}": in_words(row) for row in found if row["rival"] == rival}
        table.add_row(rival, *(cells[head] for head in list(named)[1:]))
    Console().print(table)
