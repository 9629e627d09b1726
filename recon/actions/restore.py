"""`action=restore input=<picture>`: mend photographs of your own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from recon.actions.base import Action
from recon.errors import InputError
from recon.ranges import fraction, require_number, require_whole
from recon.training.quick import quick_imports

if TYPE_CHECKING:
    from recon.restore.plan import Wishes


@dataclass
class Restore(Action):
    """Restore pictures; what its keys mean stands in `conf/action/restore.yaml`.

    Neither task nor degradation is needed, as weights know what they are for. It does not import Lightning, which would
    take longer than a picture does.
    """

    leaves_a_record: ClassVar[bool] = False
    imports_torch: ClassVar[bool] = False
    takes: ClassVar[tuple[str, ...]] = ()

    input: str | list[str] | None
    output: str | None
    in_place: bool
    format: Literal["png", "jpeg", "tiff", "webp", "bmp"] | None
    quality: int | None
    weights: str | None
    run: str | int | None
    mask: str | None
    mask_resize: bool
    mask_color: str | None
    scratches: Literal["auto"] | None
    scale: int
    strength: float
    ensemble: int
    min_gain: float
    force: bool
    sigma: float | str | None
    tile: int | None
    max_pixels: int
    compare: bool
    embed: bool
    device: Literal["auto", "cpu", "cuda"]

    def __post_init__(self) -> None:
        if self.input is None and self.weights != "list":
            raise InputError("input: nothing is given; add input=<a picture, a folder or a glob>")
        require_whole("scale", self.scale, 1, 8)
        require_number("strength", self.strength, 0, 1)
        require_number("min_gain", self.min_gain, 0, 100)
        require_whole("max_pixels", self.max_pixels, 1, 1 << 40)
        if self.quality is not None:
            require_whole("quality", self.quality, 1, 100)
        if self.tile is not None:
            require_whole("tile", self.tile, 0)
        if self.ensemble not in (1, 8):
            raise InputError(f"ensemble: {self.ensemble} is not possible; give 1 or 8")
        if isinstance(self.sigma, str):
            self.sigma = fraction(self.sigma)
        if self.sigma is not None:
            require_number("sigma", self.sigma, 0, 1)
        if self.weights is not None and self.run is not None:
            raise InputError("run: weights are chosen already; leave one of weights and run out")
        if self.in_place and (self.output is not None or self.format is not None):
            raise InputError("in_place: the picture keeps its name and format; leave out output and format")

    def __call__(self, config: dict[str, Any], folder: Path, about: Mapping[str, Any]) -> None:
        """Restore them; ends with status 1 where one failed."""
        if self.weights == "list":
            from recon.restore.listing import print_weights

            print_weights()
            return
        with quick_imports():
            from recon.restore.batch import Writing, restore_all
            from recon.restore.outputs import jobs

        inputs = self.input if isinstance(self.input, list) else [self.input]
        form = self.format and self.format.upper()
        todo = jobs([str(name) for name in inputs], self.output, self.in_place, form)
        writing = Writing(self.quality, self.in_place, self.compare, self.embed, self.output is not None)
        try:
            failed = restore_all(todo, self._wishes(), writing)
        except KeyboardInterrupt:
            print("interrupted; what was written is whole, and the same command does the rest", file=sys.stderr)
            raise SystemExit(130) from None
        if failed:
            print(f"{len(failed)} of {len(todo)} pictures failed:", file=sys.stderr)
            for sentence in failed:
                print(f"error: {sentence}", file=sys.stderr)
            raise SystemExit(1)

    def _wishes(self) -> Wishes:
        import torch

        from recon.restore.mend import TILE, Settings
        from recon.restore.plan import Wishes, run_folder

        if self.device == "cuda" and not torch.cuda.is_available():
            raise InputError("device: there is no CUDA device here; choose device=cpu")
        device = ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device
        assert not isinstance(self.sigma, str)
        tile = TILE if self.tile is None else self.tile or None
        return Wishes(
            weights=self.weights,
            run=None if self.run is None else run_folder(self.run),
            mask=None if self.mask is None else Path(self.mask).expanduser(),
            mask_resize=self.mask_resize,
            mask_color=self.mask_color,
            scratches=self.scratches is not None,
            scale=self.scale,
            min_gain=self.min_gain,
            force=self.force,
            max_pixels=self.max_pixels,
            settings=Settings(tile, self.strength, self.ensemble, self.sigma, device),
        )
