"""`action=restore input=<picture>`: mend photographs of your own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from recon.actions.base import Action
from recon.errors import InputError
from recon.ranges import fraction, require_number, require_whole


class Restore(Action):
    """Restore pictures; see `conf/action/restore.yaml` for its keys.

    Neither task nor degradation is needed: weights know what they are for.
    """

    leaves_a_record = False
    imports_torch = False  # but without Lightning, which would take longer than a picture
    takes = ()

    def __init__(
        self,
        input: str | list[str],
        output: str | None,
        in_place: bool,
        format: Literal["png", "jpeg", "tiff", "webp", "bmp"] | None,
        quality: int | None,
        weights: str | None,
        run: str | int | None,
        mask: str | None,
        mask_resize: bool,
        mask_color: str | None,
        scratches: Literal["auto"] | None,
        scale: int,
        strength: float,
        ensemble: int,
        min_gain: float,
        force: bool,
        sigma: float | str | None,
        tile: int | None,
        max_pixels: int,
        compare: bool,
        embed: bool,
        device: Literal["auto", "cpu", "cuda"],
    ) -> None:
        self.keys = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        require_whole("scale", scale, 1, 8)
        require_number("strength", strength, 0, 1)
        require_number("min_gain", min_gain, 0, 100)
        require_whole("max_pixels", max_pixels, 1, 1 << 40)
        if quality is not None:
            require_whole("quality", quality, 1, 100)
        if tile is not None:
            require_whole("tile", tile, 0)
        if ensemble not in (1, 8):
            raise InputError(f"ensemble: {ensemble} is not possible; give 1 or 8")
        if isinstance(sigma, str):
            sigma = self.keys["sigma"] = fraction(sigma)
        if sigma is not None:
            require_number("sigma", sigma, 0, 1)
        if weights is not None and run is not None:
            raise InputError("run: weights are chosen already; leave one of weights and run out")
        if in_place and (output is not None or format is not None):
            raise InputError("in_place: the picture keeps its name and format; leave out output and format")

    def __call__(self, config: dict[str, Any], folder: Path, about: Mapping[str, Any]) -> None:
        """Restore them; ends with status 1 where one failed."""
        keys = self.keys
        if keys["weights"] == "list":
            from recon.restore.listing import print_weights

            print_weights()
            return
        from recon.restore.batch import Writing, restore_all
        from recon.restore.outputs import jobs

        inputs = [keys["input"]] if isinstance(keys["input"], str) else list(keys["input"])
        form = keys["format"] and keys["format"].upper()
        todo = jobs([str(name) for name in inputs], keys["output"], keys["in_place"], form)
        wishes = self._wishes()
        writing = Writing(
            keys["quality"],
            keys["in_place"],
            keys["compare"],
            keys["embed"],
            keys["output"] is not None and not keys["in_place"],
        )
        try:
            failed = restore_all(todo, wishes, writing)
        except KeyboardInterrupt:
            print("interrupted; what was written is whole, and the same command does the rest", file=sys.stderr)
            raise SystemExit(130) from None
        if failed:
            print(f"{len(failed)} of {len(todo)} pictures failed:", file=sys.stderr)
            for sentence in failed:
                print(f"error: {sentence}", file=sys.stderr)
            raise SystemExit(1)

    def _wishes(self) -> Any:
        import torch

        from recon.restore.mend import Settings
        from recon.restore.plan import Wishes, run_folder

        keys = self.keys
        device = keys["device"]
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        elif device == "cuda" and not torch.cuda.is_available():
            raise InputError("device: there is no CUDA device here; choose device=cpu")
        tile = 1024 if keys["tile"] is None else keys["tile"] or None
        settings = Settings(tile, keys["strength"], keys["ensemble"], keys["sigma"], device)
        return Wishes(
            weights=keys["weights"],
            run=None if keys["run"] is None else run_folder(keys["run"]),
            mask=None if keys["mask"] is None else Path(keys["mask"]).expanduser(),
            mask_resize=keys["mask_resize"],
            mask_color=keys["mask_color"],
            scratches=keys["scratches"] is not None,
            scale=keys["scale"],
            min_gain=keys["min_gain"],
            force=keys["force"],
            max_pixels=keys["max_pixels"],
            settings=settings,
        )
