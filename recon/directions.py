"""Directions in which the images of a generator differ most, and what they change.

Härkönen, Hertzmann, Lehtinen & Paris, "GANSpace: discovering interpretable GAN controls", NeurIPS 2020: the principal
components of the generator's first features, carried over to its noise by least squares.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from recon.errors import InputError
from recon.generated import Generator
from recon.modules.diffusion import FlowModule
from recon.runs.draw import class_name

_DRAWN = 2000  # noises whose features are analysed
_LOOKED_AT = 64  # of them, whose images are changed to see what a direction does
_REACH = 3.0  # standard deviations to either side
_PLAIN = 0.02  # change of a probability that is worth a word


class Directions(NamedTuple):
    """Directions of the noise, the first those along which the first features vary most.

    Attributes:
        z: (K,D), each of the length of one standard deviation.
        share: (K,) of the features' variance.
        names: K, what each changes in what the judge sees, or its number.
    """

    z: Tensor
    share: Tensor
    names: list[str]


def directions(maker: Generator, count: int) -> Directions:
    """Find the first directions of a generator, and name them where it has a judge.

    Raises:
        InputError: a generator without a vector of noise, or fewer directions than are wanted.
    """
    if isinstance(maker.module, FlowModule):
        raise InputError("show: images of flow and diffusion follow from their noise by many steps, so that there are "
                         "no directions; choose a run of model=gan or model=vae")  # fmt: skip
    z, label = maker.latents(_DRAWN, "directions"), maker.label_of(_DRAWN)
    features = _first_features(maker, z, label)
    # Classes differ most of all, and the label is chosen anyway: what varies within them counts.
    for one in label.unique():
        of_class = label == one
        features[of_class] -= features[of_class].mean(0)
    most = min(features.shape[1], z.shape[1])
    if count > most:
        raise InputError(f"n: there are {most} directions; give no more")
    with torch.random.fork_rng(devices=[]):  # the decomposition begins with a draw
        torch.manual_seed(0)
        _, deviations, components = torch.svd_lowrank(features, min(count + 8, most), niter=4)
    along = features @ components[:, :count]
    along = along / along.std(0)
    centred = z.double() - z.double().mean(0)
    found = (along.T @ centred.cpu() / (len(z) - 1)).float().to(z.device)
    share = deviations[:count].square() / features.square().sum()
    return Directions(found, share.float(), _names(maker, z[:_LOOKED_AT], label[:_LOOKED_AT], found))


def pictured(maker: Generator, found: Directions, steps: int) -> dict[str, Any]:
    """Go along each direction from one of the first images, within three standard deviations to either side.

    Returns:
        The arrays of a picture, see `recon.runs.tiles`: a row for each direction, a column for each of `steps`.
    """
    rows = len(found.z)
    z, label = maker.latents(rows), maker.label_of(rows)
    arrays: dict[str, Any] = {"index": np.arange(rows)}
    arrays["title"] = np.array(
        [f"{name} ({100 * share:.1f} %)" for name, share in zip(found.names, found.share, strict=True)]
    )
    for reach in torch.linspace(-_REACH, _REACH, steps).tolist():
        images = maker.images(z + reach * found.z, label)
        pixels = (images * 255).round().to(torch.uint8).movedim(1, 3).numpy()
        arrays[f"{reach:+.1f}"] = pixels
    return arrays


def _first_features(maker: Generator, z: Tensor, label: Tensor) -> Tensor:
    """Return what the first convolution makes of noise (N,D), or the first dense layer where there is none: (N,F).

    In float64, on the CPU. What a dense layer makes of noise alone is as round as the noise; what follows is not.
    """
    seen: list[Tensor] = []

    class Seen(Exception):
        """The rest of the net is not needed."""

    def keep(_: nn.Module, __: Any, features: Tensor) -> None:
        seen.append(features.flatten(1).double().cpu())
        raise Seen

    layers = list(maker.module.active_net.modules())
    first: list[nn.Module] = [layer for layer in layers if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    first = first or [layer for layer in layers if isinstance(layer, nn.Linear)]
    hooks = [layer.register_forward_hook(keep) for layer in first]
    try:
        with torch.no_grad():
            maker.module.from_latents(z, label)
    except Seen:
        return torch.cat(seen)
    finally:
        for hook in hooks:
            hook.remove()
    raise InputError("show: this generator has no layer whose features could be analysed; choose another run")


def _names(maker: Generator, z: Tensor, label: Tensor, found: Tensor) -> list[str]:
    """Name each direction (D,) by what it changes in the judge's probabilities of some images."""
    numbers = [f"direction {number}" for number in range(1, len(found) + 1)]
    options = maker.module.options
    if options.judge is None:
        return numbers
    names, called = getattr(maker.module, "class_names", ()), []
    for number, direction in zip(numbers, found, strict=True):
        ends = [options.looked_at(maker.images(z + reach * direction, label))[0].softmax(1).mean(0)
                for reach in (-_REACH, _REACH)]  # fmt: skip
        change = ends[1] - ends[0]
        more, less = int(change.argmax()), int(change.argmin())
        said = [f"{word} like {class_name(one, names)}" for word, one in (("more", more), ("less", less))
                if abs(float(change[one])) >= _PLAIN]  # fmt: skip
        called.append(f"{number}: {', '.join(said) or 'seen as the same'}")
    return called
