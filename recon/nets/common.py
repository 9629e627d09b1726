"""What several nets share: checks of sizes and labels, the sizes between strided stages, stacks of dense layers."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from recon.errors import InputError

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
    """Refuse images too small for a net.

    Args:
        net: the net's name.
        size: (..., H, W) in pixels; only the last two count.
        least: the smallest side the net can take.

    Raises:
        InputError: if either side is smaller.
    """
    height, width = size[-2:]
    if height < least or width < least:
        raise InputError(
            f"{net} needs images of at least {least}x{least} pixels, not {height}x{width}: "
            "use larger images or crops, or another model/net."
        )


def require_built_size(net: str, x: Tensor, image_size: Sequence[int]) -> None:
    """Refuse images (B,C,H,W) of another size than the `image_size` (H, W) that a net was built for.

    Raises:
        InputError: if the sizes differ.
    """
    if tuple(x.shape[-2:]) != tuple(image_size):
        raise InputError(
            f"{net} was built for images of {image_size[0]}x{image_size[1]} pixels, not {x.shape[-2]}x{x.shape[-1]}: "
            "resize the images, or train a model/net that takes any size."
        )


def require_classes(net: str, num_classes: int) -> None:
    """Refuse a task without labels.

    Raises:
        InputError: if `num_classes` is 0.
    """
    if num_classes < 1:
        raise InputError(f"{net} recognises classes and this task has no labels: choose a task= with labels.")


def halved_sizes(image_size: Sequence[int], stages: int) -> list[tuple[int, int]]:
    """List the sizes (H, W) before, between and after `stages` stages of stride 2 that round up."""
    height, width = image_size
    return [(-(-height // 2**stage), -(-width // 2**stage)) for stage in range(stages + 1)]


def activation(name: str) -> nn.Module:
    """Make the activation called `name`.

    Raises:
        InputError: if there is no such activation.
    """
    if name not in ACTIVATIONS:
        raise InputError(f"activation '{name}' is unknown: choose one of {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]()


def dense(widths: Sequence[int], hidden_activation: str, last_activation: str) -> nn.Sequential:
    """Stack dense layers of the given widths, the input's width first: (B,widths[0]) to (B,widths[-1])."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), activation(hidden_activation)]
    layers[-1] = activation(last_activation)
    return nn.Sequential(*layers)
