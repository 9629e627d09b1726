"""What several nets share: checks of sizes and labels, sizes between strided stages, stacks of layers."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recon.errors import InputError
from recon.ranges import require_whole, require_widths

LEAST_SIDE = 4
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "linear": nn.Identity,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


def require_size(net: str, size: Sequence[int], least: int = LEAST_SIDE) -> None:
    """Raise InputError where a side of images (..., H, W) is below `least` pixels, the smallest that a net takes.

    >>> require_size("UNet", (8, 3, 28, 28))
    """
    height, width = size[-2:]
    if height < least or width < least:
        raise InputError(
            f"{net} needs images of at least {least}x{least} pixels, not {height}x{width}: "
            "use larger images or crops, or another model/net."
        )


def require_built_size(net: str, x: Tensor, image_size: Sequence[int]) -> None:
    """Raise InputError where images (B,C,H,W) are not of the `image_size` (H,W) that a net was built for.

    >>> require_built_size("LeNet", torch.zeros(1, 1, 28, 28), (28, 28))
    """
    if tuple(x.shape[-2:]) != tuple(image_size):
        raise InputError(
            f"{net} was built for images of {image_size[0]}x{image_size[1]} pixels, not {x.shape[-2]}x{x.shape[-1]}: "
            "resize the images, or train a model/net that takes any size."
        )


def require_classes(net: str, num_classes: int) -> None:
    """Raise InputError where a classifier is built for a task without labels, of 0 classes.

    >>> require_classes("LeNet", 10)
    """
    if num_classes < 1:
        raise InputError(f"{net} recognises classes and this task has no labels: choose a task= with labels.")


def padded_to(multiple: int, x: Tensor) -> Tensor:
    """Continue images (B,C,H,W) at the right and at the bottom by their reflection, to whole multiples of sides.

    Repeated border pixels would make stripes of noise, which no net has seen: a blind denoiser lost 0.9 dB on images of
    321×481 pixels by them, one of a single level 0.13 dB. Sides that are shorter than what is added are repeated.

    >>> padded_to(4, torch.arange(12.0).view(1, 1, 4, 3))[0, 0, 0]
    tensor([0., 1., 2., 1.])
    """
    height, width = x.shape[2:]
    # Of sides written as (side + m - 1) // m * m an exporter knows that they are multiples, whatever the side.
    bottom, right = ((side + multiple - 1) // multiple * multiple - side for side in (height, width))
    if torch.compiler.is_exporting():  # of a reflecting pad an exporter asks whether there is enough to reflect
        return _reflected(2, bottom, _reflected(3, right, x))
    is_short = bottom >= height or right >= width
    return F.pad(x, (0, right, 0, bottom), "replicate" if is_short else "reflect")


def _reflected(dim: int, more: int, x: Tensor) -> Tensor:
    side = x.shape[dim]
    index = torch.arange(side + more, device=x.device)
    return x.index_select(dim, torch.where(index < side, index, 2 * side - 2 - index))


def cut_to(height: int, width: int, x: Tensor) -> Tensor:
    """Cut images (B,C,H,W) to their first `height` rows and `width` columns.

    >>> cut_to(2, 3, torch.zeros(1, 1, 8, 8)).shape
    torch.Size([1, 1, 2, 3])
    """
    if not torch.compiler.is_exporting():
        return x[..., :height, :width]
    # Of a slice an exporter asks whether anything was cut, and fixes the answer for all sizes.
    rows, columns = (torch.arange(side, device=x.device) for side in (height, width))
    return x.index_select(2, rows).index_select(3, columns)


def halved_sizes(image_size: Sequence[int], stages: int) -> list[tuple[int, int]]:
    """List the sizes (H,W) before, between and after `stages` stages of stride 2 that round up.

    >>> halved_sizes((28, 30), 2)
    [(28, 30), (14, 15), (7, 8)]
    """
    height, width = image_size
    return [(-(-height // 2**stage), -(-width // 2**stage)) for stage in range(stages + 1)]


def activation(name: str) -> nn.Module:
    """Make the activation called `name`; raises InputError if there is none.

    >>> activation("relu")
    ReLU()
    """
    if name not in ACTIVATIONS:
        raise InputError(f"activation '{name}' is unknown: choose one of {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]()


def dense(widths: Sequence[int], hidden_activation: str, last_activation: str) -> nn.Sequential:
    """Stack dense layers of the given widths, the input's width first: (B,widths[0]) to (B,widths[-1]).

    >>> dense([784, 32, 10], "relu", "linear")(torch.zeros(2, 784)).shape
    torch.Size([2, 10])
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), activation(hidden_activation)]
    layers[-1] = activation(last_activation)
    return nn.Sequential(*layers)


def two_convolutions(width: int) -> nn.Sequential:
    """Return convolution, ReLU and convolution, 3x3: what a residual block adds.

    >>> two_convolutions(8)(torch.zeros(2, 8, 5, 5)).shape
    torch.Size([2, 8, 5, 5])
    """
    first, second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
    return nn.Sequential(first, nn.ReLU(), second)


class DenseCoder(nn.Module):
    """A dense encoder of images of one size to vectors, and a mirrored decoder of codes.

    >>> DenseCoder(1, (4, 4), [8], 2, "relu", "linear").decode(torch.zeros(3, 2)).shape
    torch.Size([3, 1, 4, 4])

    Args:
        channels: C of the image.
        image_size: (H,W) in pixels, at least 4x4.
        hidden: widths of the encoder's layers before the code; the decoder has them in reverse.
        latent_dim: length of the code.
        activation: of the hidden layers, one of `ACTIVATIONS`.
        code_activation: of the encoder's result.
        codes: how many numbers the encoder returns for each of the code.
        known: how many further numbers, such as those of a label, encoder and decoder are given.
    """

    fixed_size: ClassVar[bool] = True

    def __init__(
        self,
        channels: int,
        image_size: tuple[int, int],
        hidden: Sequence[int],
        latent_dim: int,
        activation: str,
        code_activation: str,
        codes: int = 1,
        known: int = 0,
    ) -> None:
        super().__init__()
        require_widths("hidden", hidden, 0)
        require_whole("latent_dim", latent_dim)
        require_size(type(self).__name__, image_size)
        self.image_size = tuple(image_size)
        self.image_shape = (channels, *image_size)
        self.latent_dim = latent_dim
        pixels = prod(self.image_shape)
        self.encoder = dense([pixels + known, *hidden, codes * latent_dim], activation, code_activation)
        self.decoder = dense([latent_dim + known, *hidden[::-1], pixels], activation, "sigmoid")

    def encoded(self, x: Tensor, *known: Tensor) -> Tensor:
        """Encode images (B,C,H,W), and what is known of them (B,known): (B,codes·latent_dim)."""
        require_built_size(type(self).__name__, x, self.image_size)
        code: Tensor = self.encoder(torch.cat([x.flatten(1), *known], 1))
        return code

    def decoded(self, z: Tensor, *known: Tensor) -> Tensor:
        """Rebuild images (B,C,H,W) in [0,1] from codes (B,latent_dim), and what is known of them (B,known)."""
        image: Tensor = self.decoder(torch.cat([z, *known], 1)).unflatten(1, self.image_shape)
        return image

    def decode(self, z: Tensor) -> Tensor:
        """Rebuild images (B,C,H,W) in [0,1] from codes (B,latent_dim) alone."""
        return self.decoded(z)
