"""Classical methods against a blur that is known."""

from typing import ClassVar

import numpy as np
from skimage.restoration import richardson_lucy, uft, wiener
from torch import Tensor

from recon.baselines.base import Array, Method, for_each, level_of, steps_of, to_arrays
from recon.baselines.denoising import estimated
from recon.degradations.base import Degradation
from recon.degradations.blur import Blur
from recon.degradations.noise import GaussianNoise
from recon.errors import InputError
from recon.pair import Pair

# How NumPy continues an image as a blur did.
_PADS = {"reflect": "symmetric", "replicate": "edge", "circular": "wrap"}


class Deblurrer(Method):
    """A method that knows the kernel: that of a blur alone, or of a chain of a blur and Gaussian noise."""

    def prepare_for(self, damage: Degradation) -> None:
        """Find the blur, see `Method`."""
        super().prepare_for(damage)
        blur, *rest = steps_of(damage)
        if not isinstance(blur, Blur) or len(rest) > 1 or not all(isinstance(step, GaussianNoise) for step in rest):
            raise InputError(
                f"model.method: {self.name} needs a blur that is known, alone or before Gaussian noise, and this "
                "degradation is another; choose degradation=blur|box_blur|defocus_blur|kernel_blur, or another method"
            )
        if blur.boundary not in _PADS:
            raise InputError(
                f"model.method: {self.name} continues images beyond their border, and degradation.boundary="
                f"{blur.boundary} has cut them there; choose {'|'.join(_PADS)}"
            )
        try:
            blur.kernel(blur.level[0])
        except InputError as error:
            raise InputError(f"model.method: {self.name} needs a known blur; degradation.{error}") from error
        self.damage, self.blur, self.noise = damage, blur, next(iter(rest), None)

    def forward(self, pair: Pair) -> Tensor:
        """Deblur each image, see `Method`."""
        return for_each(self._deblurred, pair.degraded, to_arrays(pair.degraded), pair.severity.tolist())

    def deblur(self, image: Array, kernel: Array, sigma: float) -> Array:
        """Deblur an image (H,W,C), given the kernel (h,w) with odd sides and sigma of the noise."""
        raise NotImplementedError

    def _deblurred(self, image: Array, severity: float) -> Array:
        level = level_of(self.blur, self.damage, severity)
        if level is None:
            raise InputError(
                f"model.method: {self.name} needs to know the blur of each image, and nothing tells it here; give the "
                "degradation a constant level"
            )
        sigma = 0.0 if self.noise is None else level_of(self.noise, self.damage, severity)
        sigma = estimated(image) if sigma is None else sigma
        return self.deblur(image, self.blur.kernel(level).numpy(), sigma)


class Wiener(Deblurrer):
    """Least squares under a smoothness term, in the frequency domain: Wiener's filter as Hunt has it (1973).

    `skimage.restoration.wiener` in each channel, with a Laplacian. Its balance is Hunt's: that by which the result,
    blurred again, differs from the image as the noise does, by a standard deviation of sigma, here of 1/255 at least.
    Unless the blur took the image for periodic, it is first continued by the side of the kernel and blended there
    into its blurred self, as MATLAB's `edgetaper` does.
    """

    name = "wiener"

    def deblur(self, image: Array, kernel: Array, sigma: float) -> Array:
        """Filter, see `Deblurrer`."""
        (down, right), (height, width) = kernel.shape, image.shape[:2]
        framed = self.framed(image, kernel.shape)
        if self.blur.boundary == "circular":
            down = right = 0
        else:
            own = np.outer(_ramp(framed.shape[0], down), _ramp(framed.shape[1], right))[..., None]
            spectrum = np.fft.rfft2(framed, axes=(0, 1)) * uft.ir2tf(kernel, framed.shape[:2])[..., None]
            framed = framed * own + np.fft.irfft2(spectrum, framed.shape[:2], axes=(0, 1)) * (1 - own)
            sigma *= float(np.sqrt(np.mean(own**2)))  # what is blurred has lost its noise
        balance = balance_of(framed, kernel, max(sigma, 1 / 255))
        channels = [wiener(framed[..., channel], kernel, balance, clip=False) for channel in range(image.shape[2])]
        return np.stack(channels, -1)[down : down + height, right : right + width]

    def framed(self, image: Array, kernel: tuple[int, ...]) -> Array:
        """Continue an image (H,W,C) as the blur did: by a kernel at each side, or to whole periods that hold one."""
        pads = [(side, side) for side in kernel]
        if self.blur.boundary == "circular":
            sides = zip(image.shape, kernel, strict=False)
            pads = [(0, -(-least // side) * side - side) for side, least in sides]
        return np.pad(image, [*pads, (0, 0)], mode=_PADS[self.blur.boundary])  # type: ignore[call-overload,no-any-return]


class RichardsonLucy(Deblurrer):
    """The iterations of Richardson (1972) and Lucy (1974), 30 of them; no image is negative.

    `skimage.restoration.richardson_lucy` in each channel. There is no published rule for their number; 30 is that of
    its example. The image is first continued, as the blur has done, by twice the side of the kernel.
    """

    name = "richardson_lucy"
    iterations: ClassVar[int] = 30

    def deblur(self, image: Array, kernel: Array, sigma: float) -> Array:
        """Iterate, see `Deblurrer`."""
        (down, right), (height, width) = (2 * side for side in kernel.shape), image.shape[:2]
        pads = [(down, down), (right, right), (0, 0)]
        framed = np.pad(image.clip(0), pads, mode=_PADS[self.blur.boundary])  # type: ignore[call-overload]
        channels = [
            richardson_lucy(framed[..., channel], kernel, self.iterations, clip=False)
            for channel in range(image.shape[2])
        ]
        return np.stack(channels, -1)[down : down + height, right : right + width]


def balance_of(image: Array, kernel: Array, sigma: float) -> float:
    """Return the balance of `skimage.restoration.wiener` for which the residual's standard deviation is sigma.

    Args:
        image: (H,W,C), periodic.
        kernel: (h,w).
        sigma: above 0.
    """
    shape = image.shape[:2]
    blur = np.abs(uft.ir2tf(kernel, shape)) ** 2
    smooth = np.abs(uft.laplacian(2, shape)[0]) ** 2
    power = (np.abs(np.fft.rfft2(image, axes=(0, 1), norm="forward")) ** 2).mean(2)
    power[:, 1 : (shape[1] + 1) // 2] *= 2  # the half of the spectrum that is not there
    low, high = -12.0, 6.0  # powers of ten; the residual grows with the balance
    for _ in range(24):
        middle = (low + high) / 2
        kept = 10**middle * smooth / np.maximum(blur + 10**middle * smooth, 1e-300)
        low, high = (middle, high) if (power * kept**2).sum() < sigma**2 else (low, middle)
    return float(10**low)


def _ramp(side: int, ends: int) -> Array:
    """Return weights (side,) that rise from 0 to 1 along the first `ends` places, and fall along the last."""
    rise = (1 - np.cos(np.pi * (np.arange(ends) + 0.5) / ends)) / 2
    return np.concatenate([rise, np.ones(side - 2 * ends), rise[::-1]])
