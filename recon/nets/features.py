"""What a classifier makes of images before it names their class, and which weights it has."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from recon.errors import InputError


def before_last(net: nn.Module, call: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """Return what a call of a net comes to, and what the net's last dense layer is given by it, (B,D).

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 10))
    >>> [part.shape for part in before_last(net, lambda: net(clean))]
    [torch.Size([2, 10]), torch.Size([2, 5])]

    Raises:
        InputError: the net has no dense layer.
    """
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
    if not layers:
        raise InputError("its net has no dense layer whose input could be compared")
    seen: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.append(inputs[0])

    hook = layers[-1].register_forward_pre_hook(keep)
    try:
        result = call()
    finally:
        hook.remove()
    return result, seen[-1].flatten(1)


@torch.no_grad()
def with_features(classifier: nn.Module, image: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scores of a classifier and what its last dense layer is given, in float32 whatever the precision.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 10))
    >>> [part.shape for part in with_features(net, clean)]
    [torch.Size([2, 10]), torch.Size([2, 5])]

    Args:
        classifier: a net or a module, (B,C,H,W) -> (B,K).
        image: (B,C,H,W).

    Returns:
        (B,K) and (B,D).

    Raises:
        InputError: the net has no dense layer.
    """

    def scores() -> Tensor:
        with torch.autocast(image.device.type, enabled=False):
            found: Tensor = classifier.to(image.device)(image.float())
        return found

    try:
        return before_last(getattr(classifier, "active_net", classifier), scores)
    except InputError as error:
        raise InputError(f"model.judge: {error}; choose another run") from error


def sha256_of(net: nn.Module, beside: str = "") -> str:
    """Return the sha256 of the weights of a net by their names, and of a text beside them.

    >>> sha256_of(nn.ReLU())[:8]
    'e3b0c442'
    """
    digest = hashlib.sha256(beside.encode())
    for name, weight in sorted(net.state_dict().items()):
        digest.update(name.encode() + weight.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
