"""Losses of what neighbouring pixels make together: similarity of structure, edges, frequencies."""

import torch
from torch import Tensor
from torch.nn import functional as F

from recon.losses.pixel import PixelLoss, wide


class SSIM(PixelLoss):
    """One minus the structural similarity of each image (Wang et al. 2004), by the convention of `recon.metrics.ssim`.

    Values beyond [0,1] count as they are, where the metric clamps them: a clamped pixel would have no gradient.

    >>> SSIM()(torch.ones(1, 1, 16, 16), torch.ones(1, 1, 16, 16)).item()
    0.0
    """

    def __call__(self, image: Tensor, clean: Tensor) -> Tensor:
        """Return (B,)."""
        batch = len(image)
        image, clean = (wide(x).flatten(0, 1)[:, None] for x in (image, clean))
        taps = min(11, (min(image.shape[2:]) - 1) // 2 * 2 + 1)
        offsets = torch.arange(taps, dtype=image.dtype, device=image.device) - taps // 2
        window = (-offsets.square() / (2 * 1.5**2)).exp()
        window = window / window.sum()
        with torch.autocast(image.device.type, enabled=False):
            blurred = [
                F.conv2d(F.conv2d(x, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
                for x in (image, clean, image.square(), clean.square(), image * clean)
            ]
        x, y, xx, yy, xy = blurred
        similarity = (2 * x * y + 0.01**2) * (2 * (xy - x * y) + 0.03**2)
        similarity = similarity / ((x * x + y * y + 0.01**2) * (xx - x * x + yy - y * y + 0.03**2))
        return 1 - similarity.mean((1, 2, 3)).view(batch, -1).mean(1)


class Edge(PixelLoss):
    """The absolute error of the horizontal and vertical differences by Sobel's 3x3 filters, whose sum of weights is 1.

    >>> Edge()(torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)).max().item()
    0.0
    """

    def __call__(self, image: Tensor, clean: Tensor) -> Tensor:
        """Return (B,C,H,W), the mean of both directions; beyond the image lie its outermost pixels."""
        difference = wide(image) - wide(clean)
        smooth = torch.tensor([1.0, 2.0, 1.0], dtype=difference.dtype, device=difference.device) / 4
        slope = torch.tensor([-1.0, 0.0, 1.0], dtype=difference.dtype, device=difference.device) / 2
        filters = torch.stack([smooth.outer(slope).mT, smooth.outer(slope)])[:, None]
        planes = F.pad(difference.flatten(0, 1)[:, None], (1, 1, 1, 1), "replicate")
        with torch.autocast(planes.device.type, enabled=False):
            edges = F.conv2d(planes, filters)
        return edges.abs().mean(1).view_as(difference)


class Frequency(PixelLoss):
    """The absolute error of the magnitudes of the discrete Fourier transform, divided by the root of the pixels.

    A shift of a periodic image costs nothing; only its pattern counts. Use it in a sum with a loss of pixels.

    >>> Frequency()(torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)).sum().item()
    4.0
    """

    def __call__(self, image: Tensor, clean: Tensor) -> Tensor:
        """Return (B,C,H,W)."""
        spectra = (torch.fft.fft2(wide(x), norm="ortho") for x in (image, clean))
        # Away from 0, where the magnitude has no gradient.
        first, second = ((spectrum.real.square() + spectrum.imag.square() + 1e-12).sqrt() for spectrum in spectra)
        error: Tensor = (first - second).abs()
        return error
