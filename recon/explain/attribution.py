"""Which pixels a score depends on. A map (B,H,W) is positive where a pixel speaks for the score.

References: Simonyan et al. 2014 (saliency), Smilkov et al. 2017 (SmoothGrad), Sundararajan et al. 2017 (integrated
gradients), Selvaraju et al. 2017 (Grad-CAM), Zeiler & Fergus 2014 (occlusion).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recon import keyed
from recon.errors import InputError

Score = Callable[[Tensor], Tensor]  # of images (B,C,H,W), each independent of the others: (B,)
_NOISY = 25  # copies of each image for SmoothGrad
_NOISE = 0.15  # their sigma, of the image's range
_STEPS = 64  # of the integral
_PARTS = 7  # patches of an occlusion side by side


def gradient(score: Score, image: Tensor) -> Tensor:
    """Return the gradient of the scores of images (B,C,H,W): (B,C,H,W)."""
    x = image.detach().clone().requires_grad_()
    with torch.enable_grad():
        (found,) = torch.autograd.grad(score(x).sum(), x)
    return found


def saliency(score: Score, image: Tensor) -> Tensor:
    """Return the largest absolute gradient of a pixel's channels, (B,H,W)."""
    return gradient(score, image).abs().amax(1)


def smoothgrad(score: Score, image: Tensor, keys: Tensor) -> Tensor:
    """Return the saliency (B,H,W) of the mean gradient over noisy copies, whose noise is drawn by keys (B,)."""
    spread = (image.amax((1, 2, 3)) - image.amin((1, 2, 3))).mul(_NOISE).view(-1, 1, 1, 1)
    total = torch.zeros_like(image)
    for number in range(_NOISY):
        noise = keyed.normal(keyed.fold(keys, f"copy {number}"), tuple(image.shape[1:])).to(image.dtype)
        total += gradient(score, image + noise * spread)
    return (total / _NOISY).abs().amax(1)


def integrated_gradients(score: Score, image: Tensor, baseline: Tensor) -> Tensor:
    """Return the gradient along the way from a baseline (B,C,H,W), times that way, summed over channels: (B,H,W).

    It is complete: the sum of a map is the score of the image less that of the baseline, but for the 64 points of
    Gauss and Legendre at which the integral is taken.
    """
    places, weights = np.polynomial.legendre.leggauss(_STEPS)
    way, total = image - baseline, torch.zeros_like(image)
    for place, weight in zip((places + 1) / 2, weights / 2, strict=True):
        total += gradient(score, baseline + way * float(place)) * float(weight)
    return (way * total).sum(1)


def completeness(score: Score, image: Tensor, baseline: Tensor, map_: Tensor) -> Tensor:
    """Return by how much sums of maps (B,H,W) miss the differences of the scores, relative to these: (B,)."""
    with torch.no_grad():
        due = score(image) - score(baseline)
    return (map_.sum((1, 2)) - due).abs() / due.abs().clamp_min(1e-6)


def grad_cam(score: Score, image: Tensor, layer: nn.Module) -> Tensor:
    """Return a layer's features (B,D,h,w), weighted by their mean gradients, where positive, enlarged to (B,H,W)."""
    kept: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    try:
        with torch.enable_grad():
            # Weights are frozen: only a gradient of the image reaches the features.
            value = score(image.detach().clone().requires_grad_()).sum()
            (slope,) = torch.autograd.grad(value, kept[-1])
    finally:
        hook.remove()
    map_ = (kept[-1].detach() * slope.mean((2, 3), keepdim=True)).sum(1, keepdim=True).relu()
    return F.interpolate(map_, size=image.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def occlusion(score: Score, image: Tensor) -> Tensor:
    """Return by how much the score falls when a square around a pixel is covered with the image's mean: (B,H,W).

    The squares are a seventh of the shorter side, half a square apart; a pixel has the mean of those that cover it.
    """
    height, width = image.shape[2:]
    side = max(1, round(min(height, width) / _PARTS))
    stride = max(1, side // 2)
    total = torch.zeros(len(image), height, width, device=image.device, dtype=image.dtype)
    count = torch.zeros(height, width, device=image.device, dtype=image.dtype)
    mean = image.mean((2, 3), keepdim=True)
    with torch.no_grad():
        whole = score(image)
        for top in [*range(0, height - side, stride), height - side]:
            for left in [*range(0, width - side, stride), width - side]:
                rows, columns = slice(top, top + side), slice(left, left + side)
                covered = image.clone()
                covered[:, :, rows, columns] = mean
                total[:, rows, columns] += (whole - score(covered)).view(-1, 1, 1)
                count[rows, columns] += 1
    return total / count


def layers(net: nn.Module, image: Tensor, run: Callable[[Tensor], object]) -> dict[str, tuple[nn.Module, Tensor]]:
    """Return the layers of a net that make feature maps, with what they make of images (B,D,h,w), in order.

    Args:
        net: any.
        image: (B,C,H,W).
        run: applies the net.
    """
    found: dict[str, tuple[nn.Module, Tensor]] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                found[name] = module, output.detach()

        return hook

    hooks = [module.register_forward_hook(keep(name)) for name, module in _leaves(net)]
    try:
        with torch.no_grad():
            run(image)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _leaves(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((name, module) for name, module in net.named_modules() if name and not any(True for _ in module.children()))


def choose_layer(found: dict[str, tuple[nn.Module, Tensor]], name: str | None) -> tuple[str, nn.Module, Tensor]:
    """Return a layer by its name, or the last with more than one pixel; raises InputError where there is none."""
    if name is None:
        spatial = [each for each, (_, output) in found.items() if min(output.shape[2:]) > 1]
        if not spatial:
            raise InputError("layer: this net has no layer with feature maps; choose method=saliency or "
                             "integrated_gradients")  # fmt: skip
        name = spatial[-1]
    if name not in found:
        listed = ", ".join(f"{each} ({'×'.join(map(str, output.shape[1:]))})" for each, (_, output) in found.items())
        raise InputError(f"layer: there is none {name!r} that makes feature maps; choose one of {listed}")
    return name, *found[name]
