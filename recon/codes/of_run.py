"""The codes that a trained model makes of the images of a task, and the model with its images from a configuration."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from recon import build
from recon.console import tracked
from recon.data.datamodule import DataModule
from recon.data.loader import Loader
from recon.errors import InputError
from recon.modules.autoencoding import AutoencodingModule
from recon.modules.base import Module
from recon.modules.vae import VAEModule
from recon.pair import Pair
from recon.runs import draw
from recon.runs.checkpoint import best_or_last, load_weights


@dataclass(frozen=True)
class Coded:
    """The images of a split.

    Attributes:
        codes: (N,D) float32.
        pixels: (N,C·H·W) float32, what the codes were made of; (N,0) where they were not kept.
        label: (N,) int64, -1 for none.
        index: (N,) int64, their places in the split.
    """

    codes: Tensor
    pixels: Tensor
    label: Tensor
    index: Tensor


def with_images(config: dict[str, Any]) -> tuple[Module, DataModule]:
    """Rebuild the trained model of a run for the images of its task, or of another one that is typed."""
    task = build.task(config)
    degradation = build.degradation(config, task)
    module = build.module(config, task, degradation)
    load_weights(module, best_or_last(Path(str(config["run"]))))
    require_code(module)
    on_gpu = torch.cuda.is_available() and config["trainer"]["accelerator"] != "cpu"
    return module.eval().to("cuda" if on_gpu else "cpu"), build.data(config, task, degradation, module)


def require_code(module: Module) -> None:
    """Raise InputError for a model without a code."""
    if not isinstance(module, AutoencodingModule | VAEModule):
        raise InputError(f"run: {type(module).__name__} makes no code of an image; choose a run of "
                         "model=autoencoder|vae")  # fmt: skip


def code_of(module: Module, image: Tensor) -> Tensor:
    """Return the codes (B,D) of images (B,C,H,W): quantised, or the mean of a VAE, without labels."""
    with torch.inference_mode():
        if isinstance(module, VAEModule):
            none = torch.full((len(image),), -1, device=image.device)
            return module.described(image, none)[0].float().flatten(1).cpu()
        assert isinstance(module, AutoencodingModule)
        code = module.encode(image)
        quantised = module.quantised(code)
        return (code if quantised is None else quantised.code).float().flatten(1).cpu()


def coded(module: Module, loader: Loader[Any], title: str, with_pixels: bool = False) -> Coded:
    """Return the codes of the images that a loader serves, in the order of their places.

    Args:
        module: with a code.
        loader: of images of one size.
        title: of the progress bar.
        with_pixels: whether the pixels are kept too.

    Raises:
        InputError: the images have several sizes.
    """
    parts: list[tuple[Tensor, ...]] = []
    shape = None
    served: Collection[Pair] = loader  # type: ignore[assignment]
    for pair in tracked(served, title):
        shape = shape or pair.degraded.shape[1:]
        if pair.degraded.shape[1:] != shape:
            sizes = " and ".join("×".join(map(str, size[1:])) for size in (shape, pair.degraded.shape[1:]))
            raise InputError(f"task: its images have several sizes ({sizes}), and so have their codes; choose images "
                             "of one size")  # fmt: skip
        code = code_of(module, pair.degraded.to(module.device))
        pixels = pair.degraded.flatten(1).float().cpu() if with_pixels else code[:, :0]
        parts.append((code, pixels, pair.label.cpu(), pair.index.cpu()))
    codes, pixels, label, index = (torch.cat(each) for each in zip(*parts, strict=True))
    order = index.argsort()
    return Coded(codes[order], pixels[order], label[order], index[order])


def small(index: Tensor, loader: Any, largest: int = 32) -> NDArray[np.uint8]:
    """Return images of a split by their places (N,), shrunk to at most so many pixels at each side: (N,h,w,C)."""
    parts = []
    for some in index.split(256):
        images = loader.look_at(some).pair.degraded.float().cpu()
        share = largest / max(images.shape[2:])
        if share < 1:
            images = torch.nn.functional.interpolate(images, scale_factor=share, mode="area")
        parts.append(draw.pixels(images))
    return np.concatenate(parts)


def drawn(queries: Tensor, index: Tensor, found: Tensor, data: DataModule) -> Image:
    """Draw queries (M,C,H,W), with the numbers (M,) of their rows, beside the training images of places (M,k)."""
    loader: Any = data.training_images()
    columns = {f"{rank}": draw.pixels(loader.look_at(row).pair.degraded) for rank, row in enumerate(found.T, 1)}
    return draw.grid({"index": index.numpy(), "query": draw.pixels(queries), **columns})
