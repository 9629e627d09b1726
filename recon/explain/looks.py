"""What a net looks for and looks at: filters, feature maps, images of a class, and what a restored pixel used.

References: Erhan et al. 2009 and Olah et al. 2017 (activation maximisation), Luo et al. 2016 (receptive field).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recon import keyed
from recon.errors import InputError
from recon.modules.base import Module
from recon.pair import Pair

_MOST = 64  # filters or maps on a sheet
_STEPS, _RATE, _JITTER = 200, 0.03, 2  # of the ascent; pixels
_PULL, _SMOOTH = 0.5, 2.0  # towards grey and towards neighbours


def filters(net: nn.Module) -> Tensor:
    """Return the filters of the first convolution as images (N,3 or 1,h,w) in [0,1], 0.5 for 0; at most 64."""
    first = next((module for module in net.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None:
        raise InputError("method: this net has no convolution, so no filters; choose method=saliency")
    weight = first.weight.detach().float().cpu()[:_MOST]
    shown = weight if weight.shape[1] == 3 else weight[:, :1]
    return shown / (2 * shown.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12)) + 0.5


def features(maps: Tensor) -> Tensor:
    """Return the feature maps (1,D,h,w) of an image as images (N,1,h,w) in [0,1], each by its own range; at most 64."""
    each = maps[0, :_MOST].float().cpu().unsqueeze(1)
    low, high = each.amin((1, 2, 3), keepdim=True), each.amax((1, 2, 3), keepdim=True)
    return (each - low) / (high - low).clamp_min(1e-12)


def activation_maximisation(module: Module) -> tuple[Tensor, Tensor]:
    """Climb from grey to an image that each class of a classifier responds to most.

    Adam on the score less a pull towards grey and towards neighbours, under shifts of up to two pixels.

    Returns:
        (K,C,H,W) in [0,1], and the confidence (K,) in the class.
    """
    count, size = int(module.facts["num_classes"]), tuple(module.facts["image_size"])
    keys = keyed.keys(keyed.EVALUATION_SEED, "explain", 0, torch.arange(count, device=module.device))
    shape = (int(module.facts["channels"]), *size)
    image = (0.5 + 0.05 * keyed.normal(keys, shape)).requires_grad_()
    optimiser = torch.optim.Adam([image], _RATE)
    shifts = keyed.integers(keyed.fold(keys[:1], "shifts"), 2 * _JITTER + 1, (_STEPS, 2))[0].sub(_JITTER).tolist()
    with torch.enable_grad():
        for shift in shifts:
            optimiser.zero_grad()
            score = module.predict(Pair.of(image.roll(shift, (2, 3)))).diagonal().sum()
            rough = image.diff(dim=2).square().mean((1, 2, 3)).sum() + image.diff(dim=3).square().mean((1, 2, 3)).sum()
            (_PULL * (image - 0.5).square().mean((1, 2, 3)).sum() * 100 + _SMOOTH * rough * 100 - score).backward()
            optimiser.step()
            with torch.no_grad():
                image.clamp_(0, 1)
    made = image.detach()
    with torch.no_grad():
        return made, module.predict(Pair.of(made)).float().softmax(1).diagonal()


def used_by_a_pixel(module: Module, pair: Pair) -> tuple[Tensor, Tensor]:
    """Return how much the middle pixel of each restored image used of its input, its absolute gradient.

    Of an image with holes it is the pixel of a hole nearest to the middle.

    Returns:
        (B,h,w), summed over channels; and that pixel's row and column, (B,2).
    """
    seen = pair.degraded.detach().clone().requires_grad_()
    with torch.enable_grad():
        made = module.predict(pair._replace(degraded=seen))
        height, width = made.shape[2:]
        rows, columns = (torch.arange(side, device=made.device) - side // 2 for side in (height, width))
        far = (rows.square().unsqueeze(1) + columns.square()).float()
        known = pair.mask[:, 0]
        in_hole = far + known * 1e9 * (known == 0).flatten(1).any(1).view(-1, 1, 1)
        at = in_hole.flatten(1).argmin(1)
        value = made.sum(1).flatten(1).gather(1, at.unsqueeze(1)).sum()
        if not value.requires_grad:
            raise InputError("method: what this model makes has no gradient; choose a run of a net that restores")
        (slope,) = torch.autograd.grad(value, seen)
    return slope.abs().sum(1), torch.stack([at // width, at % width], 1)


def radius_of(maps: Tensor, at: Tensor, share: float = 0.95) -> float:
    """Return the radius around the pixels (B,2) within which a share of maps (B,h,w) lies, in pixels, on average."""
    rows, columns = (torch.arange(side, device=maps.device) for side in maps.shape[1:])
    far = torch.maximum((rows - at[:, :1]).abs().unsqueeze(2), (columns - at[:, 1:]).abs().unsqueeze(1)).flatten(1)
    order = far.argsort(dim=1, stable=True)
    within = maps.flatten(1).gather(1, order).cumsum(1)
    reached = (within < share * within[:, -1:]).sum(1, keepdim=True).clamp_max(far.shape[1] - 1)
    return float(far.gather(1, order).gather(1, reached).float().mean())
