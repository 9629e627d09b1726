"""`action=cost run=<folder>`: the parameters, multiply-adds, receptive field and latency of a trained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from recon.actions.base import Action
from recon.build import ready
from recon.config.check import Config
from recon.errors import InputError
from recon.modules.base import Module
from recon.pair import Pair
from recon.ranges import require_whole
from recon.training.cost import median_seconds

_LARGEST = 1 << 12  # pixels of a side
_SECONDS = 0.3  # each latency is measured for so long


class Cost(Action):
    """Print what a trained model costs; nothing is written.

    Args:
        run: its folder.
        sizes: sides in pixels of the square images to time, or None for the size that it was trained on and, where the
            net takes any size, two larger ones.
        batches: how many images at a time.
    """

    needs_run = True
    leaves_a_record = False
    takes = ("trainer", "accelerator", "allow_network")

    def __init__(self, run: str | int | None, sizes: list[int] | None, batches: list[int]) -> None:
        for name, values in {"sizes": sizes or [], "batches": batches}.items():
            for value in values:
                require_whole(name, value, most=_LARGEST)
        self.run, self.sizes, self.batches = run, sizes, batches

    def __call__(self, config: Config, folder: Path, about: Mapping[str, Any]) -> None:
        """Measure and print."""
        from rich.console import Console
        from rich.table import Table

        module = ready(config)
        table = Table("image", "multiply-adds", *(f"{_count(batch)}, ms" for batch in self.batches), box=None)
        with Console(stderr=True).status("cost: measuring"):
            rows = [_row(module, size, self.batches) for size in self._sizes(module)]
            field = receptive_field(module)
        for row in rows:
            table.add_row(*row)
        weights = sum(weight.numel() for weight in module.averaged_net.parameters())
        print(f"{type(module).__name__} with {type(module.net).__name__}: {weights:,} weights")
        print(f"receptive field: {field}")
        print(f"on {module.device.type}, {torch.get_num_threads()} threads, float32:")
        Console().print(table)

    def _sizes(self, module: Module) -> list[tuple[int, int]]:
        height, width = module.facts["image_size"]
        if "image_size" in module.built_for:
            if self.sizes and self.sizes != [height]:
                raise InputError(f"sizes: {type(module.net).__name__} takes images of {height}×{width} alone")
            return [(height, width)]
        if self.sizes:
            return [(side, side) for side in self.sizes]
        return [(height * times, width * times) for times in (1, 2, 4)]


def _row(module: Module, size: tuple[int, int], batches: Sequence[int]) -> list[str]:
    """Measure images of one size: the size, the multiply-adds of one image, the latency of each batch in ms."""
    with torch.inference_mode():
        counter = FlopCounterMode(display=False)
        with counter:
            module.predict(noise_images(module, 1, size))
        # Those of scikit-image are not counted.
        operations = f"{counter.get_total_flops() // 2:,}" if module.trains else "–"
        seconds = [
            median_seconds(lambda pair=pair: module.predict(pair), _SECONDS)  # type: ignore[misc]
            for pair in (noise_images(module, batch, size) for batch in batches)
        ]
    return ["×".join(map(str, size)), operations, *(f"{1000 * each:.2f}" for each in seconds)]


def noise_images(module: Module, count: int, size: tuple[int, int]) -> Pair:
    """Make a batch of `count` noise images of the kind that a module was trained on."""
    facts, device = module.facts, module.device
    shrunk = [side // (1 if module.sees_degraded_size else facts["scale"]) for side in size]
    noise = torch.rand(count, facts["channels"], *shrunk, generator=torch.Generator().manual_seed(0)).to(device)
    clean = torch.zeros(count, facts["channels"], *size, device=device)
    mask = torch.ones_like(clean[:, :1])
    mask[:, :, : size[0] // 2, : size[1] // 2] = 0  # a method that fills holes works in them alone
    classes = facts["num_classes"]
    return Pair.of(noise, clean, mask, label=torch.arange(count, device=device) % classes if classes else None)


def receptive_field(module: Module) -> str:
    """Say which part of the image the middle pixel of the result depends on, by its gradient."""
    if not module.trains:
        return "not measured, as it has no gradient"
    side = max(module.facts["image_size"])
    size = (side, side) if "image_size" in module.built_for else (max(side, 128), max(side, 128))
    pair = noise_images(module, 1, size)
    seen = pair.degraded.clone().requires_grad_()
    with torch.enable_grad():
        # All of it a hole: known pixels would pass as they are.
        result: Tensor = module.predict(pair._replace(degraded=seen, mask=torch.zeros_like(pair.mask)))
    if not result.requires_grad:
        return "none, as it takes no image"
    if result.ndim != 4:
        return "the whole image"
    height, width = result.shape[2:]
    (gradient,) = torch.autograd.grad(result[..., height // 2, width // 2].sum(), seen)
    rows, columns = (gradient.abs().amax((0, 1, axis)).nonzero().flatten() for axis in (3, 2))
    if not len(rows):
        return "nothing of the image"
    if len(rows) == seen.shape[2]:
        return f"the whole image at {seen.shape[2]}×{seen.shape[3]}"
    middle = (height // 2) * seen.shape[2] // height
    radius = max(middle - int(rows[0]), int(rows[-1]) - middle)
    return f"{len(rows)}×{len(columns)} pixels (radius {radius})"


def _count(images: int) -> str:
    return f"{images} image{'s' * (images != 1)}"
