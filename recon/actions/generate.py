"""`action=generate run=<run>`: images of a trained generator."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from recon.actions.base import Action
from recon.errors import InputError
from recon.ranges import require_number, require_whole

if TYPE_CHECKING:
    from recon.generated import Generator


@dataclass
class Generate(Action):
    """Generate images; what its keys mean stands in `conf/action/generate.yaml`."""

    needs_run: ClassVar[bool] = True
    leaves_a_record: ClassVar[bool] = False
    takes: ClassVar[tuple[str, ...]] = ("seed", "task", "data", "trainer", "accelerator", "logger", "allow_network")

    run: str | int | None
    n: int
    labels: list[int] | int | str | None
    truncation: float
    components: int
    judge: str | None
    show: Literal["sheet", "files", "npz", "strips", "grid", "walk", "directions"]
    steps: int
    output: str | None

    def __post_init__(self) -> None:
        require_whole("n", self.n, 1, 1 << 20)
        require_whole("steps", self.steps, 1, 1000)
        require_whole("components", self.components, 1, 1000)
        require_number("truncation", self.truncation, 0, 10)

    def __call__(self, config: dict[str, Any], folder: Path, about: Mapping[str, Any]) -> None:
        """Generate, write, and say where."""
        import torch

        from recon.dashboards.threaded import keep_after
        from recon.directions import directions, pictured
        from recon.generated import Generator, sheet
        from recon.runs.draw import grid
        from recon.runs.files import write_arrays, write_bytes, write_image

        picture = None
        maker = Generator(self._module(config), _numbers(self.labels), self.truncation, config["seed"])
        target = Path(self.output or _DEFAULTS[self.show]).expanduser()
        if self.show == "walk":
            frames = [sheet(frame) for frame in maker.walk(self.n, self.steps)]
            buffer = io.BytesIO()
            form = {".gif": "GIF", ".webp": "WEBP"}.get(target.suffix.lower())
            if form is None:
                raise InputError(f"output: a walk is written as .gif or .webp, not {target.suffix or target.name}")
            frames[0].save(buffer, form, save_all=True, append_images=frames[1:], duration=80, loop=0)
            write_bytes(target, buffer.getvalue())
        elif self.show == "npz":
            images = (maker.samples(self.n) * 255).round().to(torch.uint8).movedim(1, 3).numpy()
            write_arrays(target, {"images": images, "labels": maker.label_of(self.n).cpu().numpy()})
        elif self.show == "files":
            width = len(str(self.n - 1))
            for index, image in enumerate(maker.samples(self.n)):
                write_image(target / f"{index:0{width}}.png", _plain(image))
        elif self.show == "directions":
            found = directions(maker, self.n)
            picture = grid(pictured(maker, found, self.steps))
            write_arrays(target.with_suffix(".npz"), {"z": found.z.cpu().numpy(), "share": found.share.numpy()})
            print(*found.names, sep="\n", flush=True)
        else:
            made = {"sheet": maker.samples, "grid": maker.grid}.get(self.show)
            columns = {"grid": len(maker.labels), "strips": self.steps}.get(self.show)
            picture = sheet(made(self.n) if made else maker.strips(self.n, self.steps), columns)
        if picture is not None:
            write_image(target, picture)
        print(f"generate: {target}", flush=True)
        if self.judge is not None:
            self._measure(config, maker, target)
        if picture is not None:
            keep_after(config["logger"], Path(str(config["run"])), {f"generated_{self.show}": picture})

    def _module(self, config: dict[str, Any]) -> Any:
        """Rebuild what generates: of an autoencoder, with a mixture on its codes."""
        from recon.build import ready
        from recon.codes.mixture import CodeMixture
        from recon.codes.of_run import with_images
        from recon.modules.autoencoding import AutoencodingModule

        module = ready(config)
        if not isinstance(module, AutoencodingModule):
            return module
        if self.truncation != 1:
            raise InputError("truncation: a code of an autoencoder is no noise that could be made less; leave it out")
        if self.labels is not None or self.show == "grid":
            raise InputError(f"{'show' if self.labels is None else 'labels'}: an autoencoder's codes are drawn of all "
                             "classes; choose a run of model=gan, or a conditional one of model=vae")  # fmt: skip
        data = with_images(config)[1]
        return CodeMixture(module, data.training_images(), self.components)

    def _measure(self, config: dict[str, Any], maker: Generator, target: Path) -> None:
        """Compare as many images as the test has with these, write a table beside the images, and print it."""
        from rich.console import Console
        from rich.table import Table

        from recon import build
        from recon.degradations import Identity
        from recon.generated import compared
        from recon.runs.files import write_csv

        judge = build.judge(config, str(self.judge), maker.module.facts)
        data = build.data(config, build.task(config), Identity(), judge)
        found = compared(maker, judge, data.test_dataloader())
        write_csv(target.with_name(f"{target.stem}_measured.csv"), [
            {"measure": name, **vars(each)} for name, each in found.items()
        ])  # fmt: skip
        table = Table("measure", "generated [95 % interval]", "half of the test images against the other")
        for name, each in found.items():
            table.add_row(name, f"{each.value:.4g} [{each.low:.4g}, {each.high:.4g}]", f"{each.floor:.4g}")
        Console().print(table)


_DEFAULTS = {"sheet": "generated.png", "grid": "generated_grid.png", "strips": "generated_strips.png",
             "directions": "generated_directions.png", "walk": "generated.gif", "files": "generated",
             "npz": "generated.npz"}  # fmt: skip


def _plain(image: Any) -> Any:
    """Return an image (C,H,W) in [0,1] as it is, without enlarging it."""
    from PIL import Image

    pixels = (image * 255).round().byte().movedim(0, 2).numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _numbers(labels: list[int] | int | str | None) -> list[int] | None:
    """Read labels, typed as 3, [3,7] or '3,7'."""
    if labels is None or isinstance(labels, list):
        return labels
    try:
        return [int(part) for part in str(labels).split(",")]
    except ValueError as error:
        raise InputError(f"labels: {labels!r} are no classes; give their numbers, as labels=[3,7]") from error
