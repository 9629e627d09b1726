"""Weights under the key names by which spandrel, and so chaiNNer and ComfyUI, recognise a net and build it."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from recon.errors import InputError
from recon.nets import DnCNN, NAFNet

_LEAST_DEPTH = 8  # convolutions: fewer lack keys that spandrel looks for
_NAFNET = {
    r"first\.": "intro.", r"last\.": "ending.", r"encode\.": "encoders.", r"decode\.": "decoders.", r"down\.": "downs.",
    r"up\.": "ups.", r"middle\.": "middle_blks.",
}  # fmt: skip
_NAFNET_BLOCK = {
    r"norm\.norm\.": "norm1.", r"norm_after\.norm\.": "norm2.", r"wide\.": "conv1.", r"depthwise\.": "conv2.",
    r"attention\.": "sca.", r"narrow\.": "conv3.", r"wide_after\.": "conv4.", r"narrow_after\.": "conv5.",
    r"scale$": "beta", r"scale_after$": "gamma",
}  # fmt: skip


def spandrel_weights(net: nn.Module, noise_map: bool) -> dict[str, Tensor]:
    """Return the weights of a net under spandrel's names (version 0.4).

    Args:
        net: a DnCNN, whose batch norm is merged into its convolutions, or a NAFNet.
        noise_map: whether it is given the level of the noise, which spandrel fixes at 15/255.

    Raises:
        InputError: spandrel has no such net.
    """
    renamed = _NAMES.get(type(net))
    if renamed is None:
        raise InputError(
            f"format: spandrel knows no {type(net).__name__}; of recon's nets it loads "
            f"{', '.join(kind.__name__ for kind in _NAMES)}; choose format=onnx, which any program loads"
        )
    if noise_map:
        raise InputError("format: spandrel gives a net no level of the noise; export a run of model.noise_map=false")
    return {name: weight.detach().clone().contiguous() for name, weight in renamed(net).items()}


def _dncnn(net: nn.Module) -> dict[str, Tensor]:
    assert isinstance(net, DnCNN)
    layers: list[nn.Module] = []
    for layer in net.noise:
        if isinstance(layer, nn.BatchNorm2d):
            convolution = layers[-1]
            assert isinstance(convolution, nn.Conv2d)
            layers[-1] = fuse_conv_bn_eval(convolution, layer)
        else:
            layers.append(layer)
    if len(layers) < 2 * _LEAST_DEPTH - 1:
        raise InputError(f"format: spandrel takes a DnCNN for one from {_LEAST_DEPTH} convolutions on; train a deeper "
                         "one, or choose format=onnx")  # fmt: skip
    weights = nn.Sequential(*layers).state_dict(prefix="model.")
    return {name: torch.as_tensor(weight) for name, weight in weights.items()}


def _nafnet(net: nn.Module) -> dict[str, Tensor]:
    names = {}
    for name, weight in net.state_dict().items():
        head = next(f"{new}{name[match.end() :]}" for old, new in _NAFNET.items() if (match := re.match(old, name)))
        match = re.match(r"((?:encoders|decoders)\.\d+\.\d+\.|middle_blks\.\d+\.)(.*)", head)
        if match:
            inner = next((f"{new}{match[2][found.end():]}" for old, new in _NAFNET_BLOCK.items()
                          if (found := re.match(old, match[2]))), match[2])  # fmt: skip
            head = match[1] + inner
        names[head] = weight
    return names


_NAMES: dict[type[nn.Module], Callable[[nn.Module], dict[str, Tensor]]] = {DnCNN: _dncnn, NAFNet: _nafnet}
