"""`action=compress run=<run> input=<picture> output=<file>.rcn`: the symbols of pictures, entropy-coded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from recon.actions.base import Action
from recon.errors import InputError


@dataclass
class Compress(Action):
    """Compress pictures into one file; what its keys mean stands in `conf/action/compress.yaml`."""

    needs_run: ClassVar[bool] = True
    leaves_a_record: ClassVar[bool] = False
    takes: ClassVar[tuple[str, ...]] = ("allow_network",)

    run: str | int | None
    input: str | None
    output: str | None

    def __post_init__(self) -> None:
        if not self.input:
            raise InputError("input: nothing is given; add input=<a picture, a folder or a glob>")
        if self.output and Path(self.output).suffix.lower() != ".rcn":
            raise InputError(f"output: compressed images are written as .rcn, not {self.output}")

    def __call__(self, config: dict[str, Any], folder: Path, about: Mapping[str, Any]) -> None:
        """Compress, write, and say how many bytes it took and how near the images are."""
        import numpy as np

        from recon.build import trained
        from recon.codec.file import compress
        from recon.codec.transform import Transform
        from recon.data.find import expanded, find
        from recon.data.images import in_threads, read_image
        from recon.restore.encode import SUFFIXES
        from recon.runs.files import write_bytes

        transform = Transform(trained(Path(str(config["run"]))))
        given = expanded(str(self.input))
        paths = [given] if given.is_file() else find("input", str(self.input), set(SUFFIXES)).files
        if not paths:
            raise InputError(f"input: {self.input} names no picture; give a file, a folder or a glob of "
                             f"{', '.join(sorted(SUFFIXES))}")  # fmt: skip
        images = in_threads(lambda path: read_image(path, transform.channels), paths, "read")
        made = compress(transform, images, [path.name for path in paths])
        target = expanded(self.output or f"{given.stem if given.is_file() or given.is_dir() else 'images'}.rcn")
        write_bytes(target, made.data)
        errors = [np.square(a.astype(float) - b).mean() for a, b in zip(images, made.rebuilt, strict=True)]
        psnr = np.mean([min(100.0, 10 * np.log10(255**2 / max(error, 1e-9))) for error in errors])
        count = "1 image" if len(images) == 1 else f"{len(images):,} images"
        print(f"compress: {count}, {len(made.data):,} bytes of which {made.header} are header, "
              f"{made.bits_per_pixel:.4f} bits per pixel, {psnr:.2f} dB: {target}", flush=True)  # fmt: skip
