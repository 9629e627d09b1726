"""Classical methods against noise."""

import importlib
import warnings
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import pywt
import torch
from scipy.optimize import minimize_scalar
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle, denoise_wavelet, estimate_sigma
from torch import Tensor

from recon.baselines.base import Array, Method, for_each, level_of, to_arrays
from recon.degradations.base import Degradation
from recon.degradations.noise import GaussianNoise
from recon.errors import InputError
from recon.filters.bands import source
from recon.pair import Pair


class Median(Method):
    """The median of 3x3 pixels in each channel, images mirrored at their borders (Tukey 1977).

    As `scipy.ndimage.median_filter(image, size=3)`.
    """

    name = "median"

    def forward(self, pair: Pair) -> Tensor:
        """Take the medians, see `Method`."""
        around = [shifted for _, shifted in neighbours(pair.degraded.float(), 1)]
        return torch.stack(around).median(0).values


class Denoiser(Method):
    """A method that knows sigma, the standard deviation of the noise in units of the [0,1] range.

    Of `degradation=noise` it is the level of each image; for any other damage it is estimated for each image by
    `skimage.restoration.estimate_sigma`: the median absolute finest wavelet coefficient, divided by 0.6745 (Donoho &
    Johnstone 1994), mean over the channels.
    """

    damage: Degradation | None = None

    def prepare_for(self, damage: Degradation) -> None:
        """Take note whether sigma is known, see `Method`."""
        super().prepare_for(damage)
        self.damage = damage if isinstance(damage, GaussianNoise) else None

    def sigmas(self, pair: Pair) -> list[float]:
        """Return sigma for each image, known or estimated."""
        images, damage = to_arrays(pair.degraded), self.damage
        severities = pair.severity.tolist()
        levels = [None if damage is None else level_of(damage, damage, severity) for severity in severities]
        return [estimated(image) if level is None else level for image, level in zip(images, levels, strict=True)]

    def forward(self, pair: Pair) -> Tensor:
        """Denoise each image, see `Method`."""
        return for_each(self._denoised, pair.degraded, to_arrays(pair.degraded), self.sigmas(pair))

    def denoise(self, image: Array, sigma: float) -> Array:
        """Denoise an image (H,W,C) of a sigma above 0."""
        raise NotImplementedError

    def _denoised(self, image: Array, sigma: float) -> Array:
        return self.denoise(image, sigma) if sigma else image


class Bilateral(Denoiser):
    """The bilateral filter (Tomasi & Manduchi 1998): a mean weighted by nearness in place and in value.

    Window and deviations are those of Zhang & Gunturk, "Multiresolution bilateral filtering for image denoising", IEEE
    TIP 2008: 11x11 pixels, 1.8 pixels in place and twice sigma in value. Colours are compared by the root mean square
    over their channels. It is computed here, as scikit-image's own (0.26) reads its table of distances in the wrong
    order, which costs 1.8 dB at sigma 25/255.
    """

    name = "bilateral"
    radius: ClassVar[int] = 5
    spatial: ClassVar[float] = 1.8

    def forward(self, pair: Pair) -> Tensor:
        """Average the pixels, see `Method`."""
        image = pair.degraded.float()
        sigma = torch.tensor(self.sigmas(pair), device=image.device).view(-1, 1, 1, 1)
        total, weights = torch.zeros_like(image), torch.zeros_like(image[:, :1])
        precision = 1 / (2 * (2 * sigma.clamp_min(1e-6)).square())
        for squared, shifted in neighbours(image, self.radius):
            apart = (shifted - image).square().mean(1, keepdim=True)
            weight = (-squared / (2 * self.spatial**2) - apart * precision).exp()
            total.addcmul_(shifted, weight)
            weights += weight
        return total / weights


class NonLocalMeans(Denoiser):
    """Non-local means: a mean of pixels weighted by how alike the patches around them are (Buades et al. 2005).

    `skimage.restoration.denoise_nl_means` in its fast mode; patches, windows and strengths by sigma are the table of
    Buades, Coll & Morel, "Non-local means denoising", IPOL 2011, one for grey images and one for colour.
    """

    name = "nlm"
    # Up to sigma, of 255: the side of patches, the radius of the window of search, the strength in units of sigma.
    grey: ClassVar = ((15, 3, 10, 0.40), (30, 5, 10, 0.40), (45, 7, 17, 0.35), (75, 9, 17, 0.35), (np.inf, 11, 17, 0.3))
    colour: ClassVar = ((25, 3, 10, 0.55), (55, 5, 17, 0.40), (np.inf, 7, 17, 0.35))

    def row(self, sigma: float, channels: int) -> tuple[int, int, float]:
        """Return the side of patches, the radius of the search and the strength for a sigma."""
        # A level such as 15/255, rounded to float32, is still of the first row.
        return next(row[1:] for row in (self.grey if channels == 1 else self.colour) if 255 * sigma <= row[0] + 1e-3)

    def denoise(self, image: Array, sigma: float) -> Array:
        """Average the patches, see `Denoiser`."""
        side, radius, strength = self.row(sigma, image.shape[2])
        denoised: Array = denoise_nl_means(
            image, side, radius, strength * sigma, fast_mode=True, sigma=sigma, channel_axis=-1
        )
        return denoised


class Wavelet(Denoiser):
    """Soft thresholds on wavelet coefficients, one a band: BayesShrink (Chang, Yu & Vetterli, IEEE TIP 2000).

    `skimage.restoration.denoise_wavelet` in each channel, with the paper's four levels of the symlet of length 16, or
    as many as fit; with Haar's wavelet for images with a side under 30 pixels, which are shorter than the symlet's.
    """

    name = "wavelet"

    def denoise(self, image: Array, sigma: float) -> Array:
        """Shrink the coefficients, see `Denoiser`."""
        wavelet = "sym8" if min(image.shape[:2]) >= 30 else "haar"
        levels = min(4, pywt.dwtn_max_level(image.shape[:2], wavelet))
        if not levels:
            return image
        denoised: Array = denoise_wavelet(
            image, sigma=sigma, wavelet=wavelet, mode="soft", wavelet_levels=levels, method="BayesShrink",
            rescale_sigma=False, channel_axis=-1,
        )  # fmt: skip
        return denoised


class TotalVariation(Denoiser):
    """Total variation (Rudin, Osher & Fatemi 1992) by the algorithm of Chambolle (2004), in each channel.

    `skimage.restoration.denoise_tv_chambolle` of 30 iterations. Its weight, between 0.1 and 3 sigma, is that of the
    least risk as Ramani, Blu & Unser estimate it, "Monte-Carlo SURE", IEEE TIP 2008: from the image alone, by how much
    the result moves with a small change of the image.
    """

    name = "tv"

    def denoise(self, image: Array, sigma: float) -> Array:
        """Choose the weight and denoise, see `Denoiser`."""
        signs = np.random.default_rng(0).choice([-1.0, 1.0], image.shape)
        step = sigma / 10

        def risk(weight: float) -> float:
            denoised = self.smoothed(image, weight)
            moved = (self.smoothed(image + step * signs, weight) - denoised) / step
            return float(np.mean((denoised - image) ** 2) + 2 * sigma**2 * np.mean(signs * moved))

        bounds = (0.1 * sigma, 3 * sigma)
        best = minimize_scalar(risk, bounds=bounds, method="bounded", options={"xatol": 0.05 * sigma})
        return self.smoothed(image, best.x)

    @staticmethod
    def smoothed(image: Array, weight: float) -> Array:
        """Minimise the total variation of an image (H,W,C) under a weight."""
        # A fixed number of iterations: one that depends on the image would break the derivative of the risk.
        smoothed: Array = denoise_tv_chambolle(image, weight, eps=0, max_num_iter=30, channel_axis=-1)
        return smoothed


class BM3D(Denoiser):
    """Block matching and 3D filtering (Dabov et al. 2007), by its authors' package `bm3d`, which recon has not.

    Its licence is for non-commercial use alone; who has installed it can compare with it.
    """

    name = "bm3d"

    def prepare_for(self, damage: Degradation) -> None:
        """Find the package, see `Method`."""
        super().prepare_for(damage)
        try:
            importlib.import_module("bm3d")
        except ImportError as error:
            raise InputError(
                "model.method: bm3d needs its authors' package, whose licence is for non-commercial use alone; install "
                "it where that fits (pip install bm3d), or choose model.method=nlm"
            ) from error

    def denoise(self, image: Array, sigma: float) -> Array:
        """Filter, see `Denoiser`."""
        package = importlib.import_module("bm3d")
        work = package.bm3d if image.shape[2] == 1 else package.bm3d_rgb
        return np.asarray(work(image.squeeze(2) if image.shape[2] == 1 else image, sigma)).reshape(image.shape)


def estimated(image: Array) -> float:
    """Estimate sigma of the noise in an image (H,W,C); 0 where nothing in it tells."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an image without detail has no median of it
        sigma = float(estimate_sigma(image, average_sigmas=True, channel_axis=-1))
    return sigma if sigma > 1e-6 else 0.0


def neighbours(image: Tensor, radius: int) -> Iterator[tuple[int, Tensor]]:
    """Yield, for each place in a window, its squared distance and the images (B,C,H,W) shifted by it, mirrored."""
    height, width = image.shape[2:]
    rows, columns = (
        source(torch.arange(-radius, side + radius, device=image.device), side, "reflect") for side in (height, width)
    )
    framed = image.index_select(2, rows).index_select(3, columns)
    for down in range(2 * radius + 1):
        for right in range(2 * radius + 1):
            squared = (down - radius) ** 2 + (right - radius) ** 2
            yield squared, framed[:, :, down : down + height, right : right + width]
