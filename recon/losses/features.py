"""Losses of what a trained classifier sees in images."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor, nn

from recon.config.construct import Trained
from recon.errors import InputError
from recon.losses.pixel import PixelLoss, wide


class _OfFeatures(PixelLoss):
    """Compares what the convolutions of a classifier make of two images, before their activations.

    The features before the activation tell more (Wang et al., "ESRGAN", ECCVW 2018). Every convolution weighs the same.

    Args:
        features: a run of model=classifier on images of the same channels; None for a loss that compares nothing yet.

    Raises:
        InputError: its net has no convolution.
    """

    def __init__(self, features: Annotated[nn.Module, Trained("classifier")] | None) -> None:
        self._seen: list[Tensor] = []
        self._net = features
        if features is None:  # as while the memory of a model is worked out, without any run
            return
        features.eval().requires_grad_(False)
        inner = getattr(features, "active_net", features)
        layers = [layer for layer in inner.modules() if isinstance(layer, nn.Conv2d)]
        if not layers:
            raise InputError("features: the net of this run has no convolution; give a run with model/net=cnn|lenet")
        for layer in layers:
            layer.register_forward_hook(self._keep)

    def _keep(self, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        self._seen.append(output)

    def _features(self, image: Tensor) -> list[Tensor]:
        """Return what each convolution makes of images (B,C,H,W)."""
        if self._net is None:
            raise InputError("features: it names no run; give one of model=classifier")
        with torch.autocast(image.device.type, enabled=False):
            self._net.to(image.device)(wide(image))
        seen, self._seen = self._seen, []
        return seen

    def __call__(self, image: Tensor, clean: Tensor) -> Tensor:
        """Return (B,)."""
        with torch.no_grad():
            wanted = self._features(clean)
        differences = [self._difference(*pair) for pair in zip(self._features(image), wanted, strict=True)]
        return torch.stack(differences).mean(0)

    def _difference(self, one: Tensor, other: Tensor) -> Tensor:
        """Compare the features (B,C,H,W) of one layer: (B,)."""
        raise NotImplementedError


class Perceptual(_OfFeatures):
    """The squared error of a trained classifier's features (Johnson et al., "Perceptual losses", ECCV 2016).

    Args:
        features: a run of model=classifier on images of the same channels.

    Raises:
        InputError: its net has no convolution.
    """

    def _difference(self, one: Tensor, other: Tensor) -> Tensor:
        return (one - other).square().mean((1, 2, 3))


class Texture(_OfFeatures):
    """The squared error of the Gram matrices of a trained classifier's features (Gatys et al., CVPR 2016).

    The Gram matrix of a layer is the mean over all positions of the products of its channels: what occurs together,
    wherever it is.

    Args:
        features: a run of model=classifier on images of the same channels.

    Raises:
        InputError: its net has no convolution.
    """

    def _difference(self, one: Tensor, other: Tensor) -> Tensor:
        return (_gram(one) - _gram(other)).square().mean((1, 2))


def _gram(features: Tensor) -> Tensor:
    """Return the mean products of channels: (B,C,H,W) to (B,C,C)."""
    flat = features.flatten(2)
    return flat @ flat.mT / flat.shape[2]
