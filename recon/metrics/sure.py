"""The quality of a denoised image without its clean original, by Stein's unbiased risk estimate.

Stein, "Estimation of the mean of a multivariate normal distribution", Annals of Statistics 1981; the divergence by a
random probe is that of Ramani, Blu & Unser, "Monte-Carlo SURE", IEEE Trans. Image Processing 2008.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from recon import keyed
from recon.metrics.images import decibels

Restore = Callable[[Tensor], Tensor]

# The probe's length as a share of sigma. At 0.1 nets are no longer linear: on Set12 it makes DnCNN's PSNR 0.1 to 0.3 dB
# too low. At 0.01 float32, and TF32 on a GPU, still resolves what it changes.
STEP = 0.01


def sure(net: Restore, noisy: Tensor, sigma: Tensor, keys: Tensor, restored: Tensor | None = None) -> Tensor:
    """Estimate the mean squared error of restored images against the clean ones that nobody has.

    The noise must be white, Gaussian and of known sigma, and must not be clipped; of the net nothing is assumed. With
    a random probe b of ±1, which a key fixes, the divergence of the net is that of the difference along b. It is
    computed in float32, outside of autocast, as half precision does not resolve that difference.

    >>> sure(lambda noisy: noisy, clean, torch.tensor([0.1, 0.2]), keys)
    tensor([0.0100, 0.0400])

    Args:
        net: restores images (B,C,H,W) to (B,C,H,W), each by itself. To estimate the error of images that are clamped
            to [0,1], let it clamp.
        noisy: (B,C,H,W).
        sigma: (B,) standard deviation of the noise, at least 0; where it is 0 the estimate is exact.
        keys: (B,) int64, of the probes.
        restored: what `net` makes of `noisy`, where that is known, which saves one of two uses of the net; it is not
            used under autocast, whose rounding it has.

    Returns:
        (B,) float32; of an image of N values it is off by some sigma²·√(2/N), and may be negative.
    """
    if torch.is_autocast_enabled(noisy.device.type):
        restored = None
    with torch.autocast(noisy.device.type, enabled=False):
        noisy, sigma = noisy.float(), sigma.float()
        image = (net(noisy) if restored is None else restored).float()
        step = STEP * sigma.clamp(min=1e-3)
        signs = probe(keys, tuple(noisy.shape[1:]))
        change = net(noisy + signs * step.view(-1, 1, 1, 1)).float() - image
        return risk(image, noisy, sigma, (signs * change).mean((1, 2, 3)) / step)


def risk(image: Tensor, noisy: Tensor, sigma: Tensor, divergence: Tensor) -> Tensor:
    """Return Stein's estimate of the mean squared error.

    >>> risk(noisy=torch.zeros(1, 1, 2, 2), image=torch.ones(1, 1, 2, 2), sigma=torch.ones(1), divergence=torch.ones(1))
    tensor([2.])

    Args:
        image: (B,C,H,W), restored.
        noisy: (B,C,H,W).
        sigma: (B,) standard deviation of the noise.
        divergence: (B,), how much each value of `image` changes with its own value of `noisy`, on average.
    """
    return (image - noisy).square().mean((1, 2, 3)) + sigma.square() * (2 * divergence - 1)


def probe(keys: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Draw ±1 with equal chances: keys (B,) int64 to (B,*shape) float32.

    Of all probes of mean 0 and variance 1 it has the least variance (Hutchinson 1989).

    >>> probe(keys, (3,))
    tensor([[-1.,  1., -1.],
            [-1., -1., -1.]])
    """
    drawn = keyed.bits(keys, math.prod(shape)).view(len(keys), *shape)
    return (drawn >> 31).float().mul_(2).add_(1)


@torch.no_grad()
def sure_psnr(net: Restore, noisy: Tensor, sigma: Tensor, keys: Tensor, restored: Tensor | None = None) -> Tensor:
    """Estimate the PSNR of restored images, clamped to [0,1], without the clean ones: (B,) float32 in dB, at most 100.

    An estimate of the squared error that is below its own standard error sigma²·√(2/N) says only that the error is
    small, and counts as that. The arguments are those of `sure`, but the net need not clamp.

    >>> sure_psnr(lambda noisy: noisy, clean, torch.tensor([0.1, 0.0]), keys)
    tensor([ 20.5800, 100.0000])
    """
    clamped = None if restored is None else restored.clamp(0, 1)
    error = sure(lambda image: net(image).clamp(0, 1), noisy, sigma, keys, clamped)
    return psnr_of(error, sigma, noisy[0].numel())


def psnr_of(error: Tensor, sigma: Tensor, values: int) -> Tensor:
    """Turn estimated squared errors (B,) of images of so many values into PSNR (B,) in dB, see `sure_psnr`.

    >>> psnr_of(torch.tensor([0.01, -0.01]), torch.tensor([0.1, 0.1]), 200)
    tensor([20., 30.])
    """
    least = sigma.float().square() * math.sqrt(2 / values)
    return decibels(torch.maximum(error, least))
