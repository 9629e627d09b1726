"""`action=project run=<run> input=<image>`: the latent that makes an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from recon.actions.base import Action
from recon.errors import InputError
from recon.ranges import require_whole


@dataclass
class Project(Action):
    """Find the latent of an image; what its keys mean stands in `conf/action/project.yaml`."""

    needs_run: ClassVar[bool] = True
    leaves_a_record: ClassVar[bool] = False
    takes: ClassVar[tuple[str, ...]] = ("seed", "trainer", "accelerator", "allow_network")

    run: str | int | None
    input: str | None
    steps: int
    output: str

    def __post_init__(self) -> None:
        require_whole("steps", self.steps, 0, 100_000)
        if not self.input:
            raise InputError("input: nothing is given; add input=<image>")
        if Path(self.output).suffix.lower() != ".png":
            raise InputError(f"output: the picture is written as .png, not {Path(self.output).suffix or self.output}")

    def __call__(self, config: dict[str, Any], folder: Path, about: Mapping[str, Any]) -> None:
        """Find it, write the picture and the latent, and say how near it is."""
        import torch

        from recon.build import ready
        from recon.projection import image_for, project
        from recon.runs import draw
        from recon.runs.files import write_arrays, write_image

        module = ready(config)
        image = image_for(module, Path(str(self.input)).expanduser(), "project")
        found = project(module, image[0].to(module.device), self.steps, config["seed"])
        target = Path(self.output).expanduser()
        arrays = {"index": torch.zeros(1, dtype=torch.int64).numpy(), "input": draw.pixels(image),
                  "made by the latent": draw.pixels(found.image[None])}  # fmt: skip
        write_image(target, draw.grid(arrays))
        latent = {"z": found.z.numpy(), "label": torch.tensor(found.label).numpy()}
        write_arrays(target.with_suffix(".npz"), latent)
        as_label = f" as class {found.label}" if found.label >= 0 else ""
        print(f"project: {found.psnr:.2f} dB{as_label}; {target} and {target.with_suffix('.npz')}", flush=True)
