"""Restoring in Python: `recon.load("denoise_gray").restore(image)` for arrays, Pillow images and tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from recon.errors import InputError
from recon.restore.gain import Gain, denoising_gain
from recon.restore.mend import TILE, Settings, planes_of, restored, restored_image, runner
from recon.restore.picture import Picture
from recon.restore.weights import Weights


class PhotoRestorer:
    """Weights that restore images of any size, on the CPU.

    Attributes:
        weights: the net and what it is for, see `recon.restore.weights.About`.
    """

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    def restore(
        self,
        image: Any,
        hole: np.ndarray | None = None,
        *,
        strength: float = 1.0,
        ensemble: int = 1,
        tile: int | None = TILE,
        sigma: float | None = None,
    ) -> Any:
        """Restore an image, grey or in colour, with or without alpha, of any size that memory holds.

        Args:
            image: a Pillow image of mode L, LA, RGB, RGBA or CMYK; an array (H,W) or (H,W,C), uint8, uint16 or float in
                [0,1]; or a float tensor (C,H,W) or (B,C,H,W) in [0,1].
            hole: (H,W), true where pixels are to be filled, for weights that fill holes.
            strength: 0 leaves the image as it was, 1 is what the net makes of it.
            ensemble: 1, or 8 for the mean over turned and mirrored images.
            tile: the side of a tile in pixels, or None for the whole image at once.
            sigma: the level of the noise in [0,1], for a net that is given it.

        Returns:
            The same type and layout, `scale` times as large.

        Raises:
            InputError: the image is of another kind, or the hole does not fit it or the weights.
        """
        if (hole is None) == (self.weights.about.purpose == "inpaint"):
            raise InputError("hole: these weights fill holes; say where by hole=<array (H,W) of bool>" if hole is None
                             else f"hole: {self.weights.name} fills no holes; leave it out")  # fmt: skip
        if ensemble not in (1, 8):
            raise InputError(f"ensemble: {ensemble} is not possible; give 1 or 8")
        settings = Settings(tile, strength, ensemble, sigma)
        if isinstance(image, Image.Image):
            if image.mode not in ("L", "LA", "RGB", "RGBA", "CMYK"):
                raise InputError(f"image: mode {image.mode} is not restored; convert it to L, LA, RGB, RGBA or CMYK")
            values = self._of_array(np.asarray(image), image.mode.endswith("A"), hole, settings)
            size = values.shape[1::-1]
            return Image.frombytes(image.mode, size, np.ascontiguousarray(values).tobytes())
        if isinstance(image, np.ndarray) and image.dtype in (np.uint8, np.uint16) and image.ndim in (2, 3):
            return self._of_array(image, image.ndim == 3 and image.shape[2] in (2, 4), hole, settings)
        if isinstance(image, np.ndarray) and image.dtype.kind == "f" and image.ndim in (2, 3):
            x = torch.from_numpy(np.ascontiguousarray(image, np.float32))
            result = self._of_tensor(x[None] if image.ndim == 2 else x.movedim(2, 0), hole, settings)
            array = result[0].numpy() if image.ndim == 2 else result.movedim(0, 2).numpy()
            return array.astype(image.dtype)
        if isinstance(image, Tensor) and image.is_floating_point() and image.ndim in (3, 4):
            images = image if image.ndim == 4 else image[None]
            result = torch.stack([self._of_tensor(one.float().cpu(), hole, settings) for one in images])
            return (result if image.ndim == 4 else result[0]).to(image)
        raise InputError("image: give a Pillow image, an array (H,W) or (H,W,C) of uint8, uint16 or floats, or a float "
                         "tensor (C,H,W) or (B,C,H,W)")  # fmt: skip

    def gain(self, image: np.ndarray) -> Gain:
        """Estimate the level of the noise in an array (H,W) or (H,W,C) in [0,1], and what restoring it gains.

        Raises:
            InputError: the weights are for other damage than noise.
        """
        if self.weights.about.purpose != "denoise":
            raise InputError(f"gain: it is estimated for weights that remove noise, and {self.weights.name} do not")
        x = torch.from_numpy(np.ascontiguousarray(image, np.float32))
        x = x[None] if x.ndim == 2 else x.movedim(2, 0)
        return denoising_gain(planes_of(x, self.weights.about.facts["channels"])[0], runner(self.weights, Settings()))

    def _of_array(self, array: np.ndarray, has_alpha: bool, hole: np.ndarray | None, settings: Settings) -> np.ndarray:
        values = array[..., None] if array.ndim == 2 else array
        alpha = values[..., -1] if has_alpha else None
        picture = Picture(values[..., :-1] if has_alpha else values, alpha, "PNG")
        out, opacity = restored(picture, self.weights, settings, _fitting(hole, values.shape[:2]))
        out = out if opacity is None else np.concatenate([out, opacity[..., None]], 2)
        return out[..., 0] if array.ndim == 2 else out

    def _of_tensor(self, image: Tensor, hole: np.ndarray | None, settings: Settings) -> Tensor:
        if len(image) not in (1, 3):
            raise InputError(f"image: it has {len(image)} channels; give 1 or 3")
        fitting = _fitting(hole, (image.shape[1], image.shape[2]))
        where = None if fitting is None else torch.from_numpy(fitting)
        return restored_image(image, self.weights, settings, where).clamp(0, 1)


def _fitting(hole: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return a hole as bool; raises InputError where it is of another size than the image."""
    if hole is None:
        return None
    if hole.shape != tuple(shape):
        raise InputError(f"hole: it is of {hole.shape}, and the image of {tuple(shape)} pixels; give one of its size")
    return np.asarray(hole, bool)
