"""What is minimised without clean images: losses of a net on noisy images alone.

All are computed in float32 from what the net gives; `SureLoss` runs the net itself in float32 too.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from recon import keyed
from recon.errors import InputError
from recon.losses.pixel import wide
from recon.metrics.sure import sure
from recon.ranges import require_number, require_whole

Restore = Callable[[Tensor], Tensor]

# The ordered pairs of neighbours in a cell of 2x2 pixels, which are numbered row by row.
_PAIRS = ((0, 1), (0, 2), (1, 3), (2, 3), (1, 0), (2, 0), (3, 1), (3, 2))


class BlindLoss:
    """A loss of a net on noisy images, without their clean originals.

    >>> SureLoss()(lambda noisy: noisy * 0, torch.zeros(1, 1, 4, 4), torch.tensor([0.5]), torch.tensor([7])).item()
    -0.25
    """

    def __call__(self, net: Restore, noisy: Tensor, sigma: Tensor, keys: Tensor) -> Tensor:
        """Return the loss of each image.

        Args:
            net: restores images (B,C,H,W) of any size to (B,C,H,W).
            noisy: (B,C,H,W).
            sigma: (B,) standard deviation of the noise; only `SureLoss` uses it.
            keys: (B,) int64, of the loss's own draws.

        Returns:
            (B,) float32.

        Raises:
            InputError: the images are too small.
        """
        raise NotImplementedError


class Neighbor2Neighbor(BlindLoss):
    """Restore one half-size image, compare with its neighbour (Huang et al., "Neighbor2Neighbor", CVPR 2021).

    Of each cell of 2x2 pixels two neighbours are drawn, which make two images whose noise is independent. The second
    term allows for the difference of what is below their noise, as far as the net sees it.

    >>> Neighbor2Neighbor(gamma=1.0)(lambda noisy: noisy * 0, clean, clean[:, 0, 0, 0], keys)
    tensor([0.1613, 1.1368])

    Args:
        gamma: weight of the second term, at least 0; the paper has 2 for synthetic noise and 16 for that of cameras.
    """

    def __init__(self, gamma: float = 2.0) -> None:
        require_number("gamma", gamma)
        self.gamma = gamma

    def __call__(self, net: Restore, noisy: Tensor, sigma: Tensor, keys: Tensor) -> Tensor:
        """Return the loss, see `BlindLoss`."""
        height, width = (side // 2 for side in noisy.shape[2:])
        noisy = noisy[..., : 2 * height, : 2 * width]
        first, second = neighbours(keys, height, width)
        error = wide(net(sampled(noisy, first))) - wide(sampled(noisy, second))
        with torch.no_grad():
            whole = wide(net(noisy))
            gap = sampled(whole, first) - sampled(whole, second)
        return (error.square() + self.gamma * (error - gap).square()).mean((1, 2, 3))


def neighbours(keys: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Draw an ordered pair of neighbours in each cell of 2x2 pixels, of which there are height x width.

    >>> [place.tolist() for place in neighbours(keys[:1], 1, 2)]
    [[[[0, 1]]], [[[1, 3]]]]

    Returns:
        The places of both in their cells, (B,height,width) int64 each: 0 to 3, row by row.
    """
    first, second = torch.tensor(_PAIRS, device=keys.device).unbind(1)
    chosen = keyed.integers(keys, len(_PAIRS), (height, width))
    return first[chosen], second[chosen]


def sampled(images: Tensor, place: Tensor) -> Tensor:
    """Take one pixel of each cell of 2x2: images (B,C,2h,2w) and places (B,h,w) in 0 to 3, to (B,C,h,w).

    >>> sampled(torch.arange(8.0).view(1, 1, 2, 4), torch.tensor([[[3, 0]]])).tolist()
    [[[[5.0, 2.0]]]]
    """
    cells = F.pixel_unshuffle(images, 2).reshape(*images.shape[:2], 4, *place.shape[1:])
    index = place[:, None, None].expand(-1, images.shape[1], -1, -1, -1)
    return cells.gather(2, index)[:, :, 0]


class Noise2Void(BlindLoss):
    """Predict single pixels that were replaced by a neighbour (Krull et al., "Noise2Void", CVPR 2019).

    The image is divided into squares, shifted by a draw, and in each one pixel is replaced by another within `radius`
    (the paper's uniform pixel selection without the pixel itself). Two replaced pixels are always further apart than
    that: else a pixel could be seen where it stands for its neighbour.

    >>> Noise2Void(cell=4, radius=1)(lambda noisy: noisy * 0, clean, clean[:, 0, 0, 0], keys)
    tensor([0.0770, 1.2914])

    Args:
        cell: side of the squares in pixels, above `radius`; 8 replaces as many as the paper, 64 of 64x64 pixels.
        radius: how far in pixels a replacement may lie at most along each axis; images must have sides of twice it.
    """

    def __init__(self, cell: int = 8, radius: int = 2) -> None:
        require_whole("radius", radius, 1, 64)
        require_whole("cell", cell, radius + 1, 256)
        self.cell, self.radius = cell, radius

    def __call__(self, net: Restore, noisy: Tensor, sigma: Tensor, keys: Tensor) -> Tensor:
        """Return the loss, see `BlindLoss`: the squared error of the replaced pixels, in units of all pixels."""
        if min(noisy.shape[2:]) < 2 * self.radius:
            size = f"{noisy.shape[3]}x{noisy.shape[2]}"
            raise InputError(f"model.radius: {self.radius} is too far for images of {size} pixels; give half a side")
        pixels = F.pad(noisy.flatten(2), (0, 1))
        replaced, source = (
            number[:, None].expand(-1, noisy.shape[1], -1) for number in self.draw(keys, *noisy.shape[2:])
        )
        seen = pixels.scatter(2, replaced, pixels.gather(2, source))[..., :-1].view_as(noisy)
        predicted = F.pad(wide(net(seen)).flatten(2), (0, 1)).gather(2, replaced)
        error = predicted - wide(pixels.gather(2, replaced))
        # Divided by how many are replaced on average, so that an image with more of them counts more.
        return error.square().sum((1, 2)) * (self.cell**2 / noisy[0].numel())

    def draw(self, keys: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Draw which pixel of each square is replaced, and by which: (B,K) int64 each.

        Pixels are numbered row by row; height x width stands for one that is outside of the image.
        """
        squares = [-(-side // self.cell) + 1 for side in (height, width)]
        span = 2 * self.radius + 1
        step = keyed.integers(keyed.fold(keys, "step"), span**2 - 1, tuple(squares))
        step += step >= span**2 // 2  # the middle one of them leads nowhere
        place, source = self._along(keys, "row", height, squares, step // span - self.radius)
        column, beside = self._along(keys, "column", width, squares, step % span - self.radius)
        outside = (place < 0) | (place >= height) | (column < 0) | (column >= width)
        numbers = (place * width + column, source * width + beside)
        replaced, source = (number.masked_fill(outside, height * width).flatten(1) for number in numbers)
        return replaced, source

    def _along(self, keys: Tensor, axis: str, side: int, squares: list[int], step: Tensor) -> tuple[Tensor, Tensor]:
        """Draw the rows or columns (B,R,S) of the pixels that are replaced, and those of the pixels a step further."""
        number = torch.arange(squares[axis == "column"], device=keys.device)
        corner = self.cell * (number[:, None] if axis == "row" else number)
        shift = keyed.integers(keyed.fold(keys, f"{axis} of the first square"), self.cell).view(-1, 1, 1)
        # The last `radius` of each square are left out, and so is all that is as near to the next one.
        place = corner - shift + keyed.integers(keyed.fold(keys, axis), self.cell - self.radius, tuple(squares))
        further = place + step
        return place, torch.where((further >= 0) & (further < side), further, place - step)


class SureLoss(BlindLoss):
    """Stein's unbiased risk estimate, for Gaussian noise of known sigma (Ramani et al. 2008), see `recon.metrics.sure`.

    As a training loss by Soltanayev & Chun, "Training deep learning based denoisers without ground truth data",
    NeurIPS 2018. It runs the net in float32 under any autocast.

    >>> SureLoss()(lambda noisy: noisy * 0, clean, clean[:, 0, 0, 0], keys)
    tensor([0.0806, 0.3304])
    """

    def __call__(self, net: Restore, noisy: Tensor, sigma: Tensor, keys: Tensor) -> Tensor:
        """Return the loss, see `BlindLoss`; it may be negative."""
        return sure(net, noisy, sigma, keys)
