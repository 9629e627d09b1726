"""`action=decompress run=<run> input=<file>.rcn output=<picture>`: the images of a compressed file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from recon.actions.base import Action
from recon.errors import InputError


@dataclass
class Decompress(Action):
    """Decompress a file; what its keys mean stands in `conf/action/decompress.yaml`."""

    needs_run: ClassVar[bool] = True
    leaves_a_record: ClassVar[bool] = False
    takes: ClassVar[tuple[str, ...]] = ("allow_network",)

    run: str | int | None
    input: str | None
    output: str | None

    def __post_init__(self) -> None:
        if not self.input:
            raise InputError("input: nothing is given; add input=<a file of action=compress>")

    def __call__(self, config: dict[str, Any], folder: Path, about: Mapping[str, Any]) -> None:
        """Decompress and write: one image to a file, several to a folder, in their order."""
        from PIL import Image

        from recon.build import trained
        from recon.codec.file import decompress, read
        from recon.codec.transform import Transform
        from recon.data.find import expanded
        from recon.runs.files import write_image

        source = expanded(str(self.input))
        data = read(source)
        transform = Transform(trained(Path(str(config["run"]))))
        images = decompress(transform, data, source.name)
        stem = f"{source.stem}_decompressed"
        target = expanded(self.output or (f"{stem}.png" if len(images) == 1 else stem))
        is_file = target.suffix.lower() == ".png"
        if is_file != (len(images) == 1):
            wanted = "one image is written as .png" if len(images) == 1 else f"{len(images):,} images need a folder"
            raise InputError(f"output: {wanted}, not {target}")
        width = len(str(len(images) - 1))
        for index, image in enumerate(images):
            pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
            write_image(target if is_file else target / f"{index:0{width}}.png", Image.fromarray(pixels))
        print(f"decompress: {'1 image' if is_file else f'{len(images):,} images'}: {target}", flush=True)
