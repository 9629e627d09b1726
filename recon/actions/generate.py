"""`action=generate run=<run>`: images of a trained generator."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from recon.actions.base import Action
from recon.errors import InputError
from recon.ranges import require_number, require_whole


@dataclass
class Generate(Action):
    """Generate images; what its keys mean stands in `conf/action/generate.yaml`."""

    needs_run: ClassVar[bool] = True
    leaves_a_record: ClassVar[bool] = False
    takes: ClassVar[tuple[str, ...]] = ("seed", "trainer", "accelerator", "allow_network")

    run: str | int | None
    n: int
    labels: list[int] | int | str | None
    truncation: float
    show: Literal["sheet", "files", "npz", "strips", "grid", "walk", "directions"]
    steps: int
    output: str | None

    def __post_init__(self) -> None:
        require_whole("n", self.n, 1, 1 << 20)
        require_whole("steps", self.steps, 1, 1000)
        require_number("truncation", self.truncation, 0, 10)

    def __call__(self, config: dict[str, Any], folder: Path, about: Mapping[str, Any]) -> None:
        """Generate, write, and say where."""
        import torch

        from recon.build import ready
        from recon.directions import directions, pictured
        from recon.generated import Generator, sheet
        from recon.runs.draw import grid
        from recon.runs.files import write_arrays, write_bytes, write_image

        module = ready(config)
        maker = Generator(module, _numbers(self.labels), self.truncation, config["seed"])
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
            write_image(target, grid(pictured(maker, found, self.steps)))
            write_arrays(target.with_suffix(".npz"), {"z": found.z.cpu().numpy(), "share": found.share.numpy()})
            print(*found.names, sep="\n", flush=True)
        else:
            made = {"sheet": maker.samples, "grid": maker.grid}.get(self.show)
            columns = {"grid": len(maker.labels), "strips": self.steps}.get(self.show)
            write_image(target, sheet(made(self.n) if made else maker.strips(self.n, self.steps), columns))
        print(f"generate: {target}", flush=True)


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
