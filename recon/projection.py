"""The latent of an image: what a generator must be given to make it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recon import keyed
from recon.console import say, tracked
from recon.data.images import read_image
from recon.errors import InputError
from recon.filters.resize import resize
from recon.metrics import psnr
from recon.modules.autoencoding import AutoencodingModule
from recon.modules.base import Module
from recon.modules.vae import VAEModule

_STARTS = 8  # of each label; half of all are given up at a time, until one is left
_PRIOR = 1e-3  # weight of the mean square of the latent, which is normal, beside the error of the pixels
_RATE = 0.05


class Projected(NamedTuple):
    """The latent of an image and what it makes.

    Attributes:
        z: (D,).
        label: the class that it is made as, -1 where there are no labels.
        image: (C,H,W) in [0,1].
        psnr: of that, in dB.
    """

    z: Tensor
    label: int
    image: Tensor
    psnr: float


def image_for(module: Module, path: Path, action: str) -> Tensor:
    """Read an image in the colours and the size of a module's images: (1,C,H,W) in [0,1]; say where it is scaled.

    Raises:
        BadImage: the file is no image.
    """
    image = torch.tensor(read_image(path, module.facts["channels"])).float()[None] / 255
    size = tuple(module.facts["image_size"])
    if tuple(image.shape[2:]) == size:
        return image
    say(f"{action}: {path.name} is scaled to {size[0]}×{size[1]} pixels, which the model knows")
    return resize(image, size, "bicubic_matlab").clamp(0, 1)


def project(module: Module, image: Tensor, steps: int = 300, seed: int = 0) -> Projected:
    """Find the latent of an image by gradient descent (Adam), from the code of an encoder or from several draws.

    Args:
        module: a trained GAN, VAE or autoencoder.
        image: (C,H,W) in [0,1], of the size of the module's images.
        steps: of the descent.
        seed: of the draws.

    Raises:
        InputError: a module without a latent, or an image of another size.
    """
    wanted = module.facts["channels"], *module.facts["image_size"]
    if tuple(image.shape) != wanted:
        raise InputError(f"input: the image is of {tuple(image.shape)}, and the model makes {wanted}")
    starts, label = _starts(module, image, seed)
    z = starts.clone().requires_grad_()
    optimizer = torch.optim.Adam([z], lr=_RATE)
    halvings = max(1, (len(z) - 1).bit_length())
    for step in tracked(range(steps), "project"):
        error = _error(module, z, label, image)
        optimizer.zero_grad()
        (error + _PRIOR * z.square().flatten(1).mean(1)).sum().backward()
        optimizer.step()
        if len(z) > 1 and (step + 1) % max(1, steps // (halvings + 1)) == 0:
            best = error.argsort(stable=True)[: (len(z) + 1) // 2]
            z, label = z[best].detach().requires_grad_(), label[best]
            optimizer = torch.optim.Adam([z], lr=_RATE)
    with torch.no_grad():
        made = _decode(module, z, label).float().clamp(0, 1)
        best = (made - image).square().mean((1, 2, 3)).argmin()
        found = made[best].cpu()
    named = int(label[best]) if module.kind == "generate" and module.facts["num_classes"] else -1
    return Projected(z[best].detach().cpu(), named, found, float(psnr(found[None], image[None].cpu())))


def _starts(module: Module, image: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Return the latents (N,...) that the descent begins with, and their labels (N,)."""
    none = torch.full((1,), -1, device=image.device)
    with torch.no_grad():
        if isinstance(module, VAEModule):
            return module.described(image[None], none)[0].float(), none
        if isinstance(module, AutoencodingModule):
            return module.encode(image[None]).float(), none
    # A net that makes images in many steps is no function of its latent that a descent could follow.
    if module.kind != "generate" or not hasattr(module.net, "latent_dim"):
        raise InputError(
            f"run: {type(module).__name__} has no latent of an image; choose a run of model=gan|vae|autoencoder"
        )
    classes = max(1, int(module.facts["num_classes"]))
    index = torch.arange(_STARTS * classes, device=image.device)
    generator: Any = module
    return generator.latents(keyed.keys(seed, "project", 0, index)), index % classes


def _decode(module: Module, z: Tensor, label: Tensor) -> Tensor:
    maker: Any = module
    if isinstance(module, AutoencodingModule):
        quantised = module.quantised(z)
        return module.decode(z if quantised is None else quantised.code, *module.facts["image_size"])
    image: Tensor = maker.from_latents(z, label)
    return image


def _error(module: Module, z: Tensor, label: Tensor, image: Tensor) -> Tensor:
    """Return the squared error of what each latent makes: (N,)."""
    return (_decode(module, z, label).float() - image).square().mean((1, 2, 3))
