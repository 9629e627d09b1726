"""A picture through a net: channels that fit, alpha that does not bleed, tiles, strength, and back to its own bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy  # whose parts are imported when they are first used
import torch
import torch.nn.functional as F
from torch import Tensor

from recon.errors import InputError
from recon.filters.resize import resize
from recon.nets.common import LEAST_SIDE
from recon.restore.picture import Picture
from recon.restore.tiles import Net, tiled
from recon.restore.weights import Weights

# Pixels: with what a net sees around it, a tile takes less than a quarter of the memory of 12 megapixels at once.
TILE = 768
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as nets for grey images are trained
Done = Callable[[int], object]


def _nothing(pixels: int) -> None:
    pass


@dataclass(frozen=True)
class Settings:
    """How pictures are restored.

    Attributes:
        tile: the side of a tile in pixels, or None for the whole picture at once.
        strength: 0 leaves the picture as it was (or enlarges it bicubically), 1 is what the net makes of it.
        ensemble: 1, or 8 for the mean over the picture's turns and mirror images.
        sigma: the level of the noise in [0,1], for a net that is given it; the others are blind to it.
        device: where the net is.
    """

    tile: int | None = TILE
    strength: float = 1.0
    ensemble: int = 1
    sigma: float | None = None
    device: str = "cpu"


def restored(
    picture: Picture, weights: Weights, settings: Settings, hole: np.ndarray | None = None, done: Done = _nothing
) -> tuple[np.ndarray, np.ndarray | None]:
    """Restore a picture: its values (scale·H,scale·W,C) and its alpha (scale·H,scale·W), of their own type.

    Colours under full transparency stay what they were. With a hole, what is outside it stays, bit for bit.

    Args:
        picture: any.
        weights: see `restored_image`.
        settings: see `Settings`.
        hole: (H,W) bool, true where pixels are to be filled; for weights that fill holes.
        done: is called with the number of pixels of each part that is finished.
    """
    scale, alpha = int(weights.about.facts["scale"]), picture.alpha
    out = restored_image(as_tensor(picture), weights, settings, None if hole is None else torch.from_numpy(hole), done)
    values = _as_stored(out, picture)
    if alpha is not None and scale > 1:
        wide = enlarged(torch.from_numpy(alpha.astype(np.float32) / picture.white)[None], scale)
        return values, _as_stored(wide, picture)[..., 0]
    kept = np.zeros(picture.values.shape[:2], bool) if alpha is None else alpha == 0
    if hole is not None:
        kept |= ~hole
    return (np.where(kept[..., None], picture.values, values) if kept.any() else values), alpha


def restored_image(
    image: Tensor, weights: Weights, settings: Settings, hole: Tensor | None = None, done: Done = _nothing
) -> Tensor:
    """Restore an image (C,H,W) in [0,1], of 1, 3 or 4 channels (CMYK): (C,scale·H,scale·W), not clamped.

    Args:
        image: any.
        weights: for grey or for colour. A net for grey works on the luminance of colours, and on each ink; one for
            colour takes the mean of three equal channels for grey.
        settings: see `Settings`.
        hole: (H,W) bool, see `restored`.
        done: see `restored`.
    """
    planes = planes_of(image, weights.about.facts["channels"])
    if hole is not None:
        known = (~hole).float().expand(len(planes), 1, *hole.shape)
        planes = torch.cat([planes * known, known], 1)
    net = runner(weights, settings, done)
    with torch.inference_mode():
        result = torch.cat([net(part) for part in planes.split(1)])
        base = enlarged(image, int(weights.about.facts["scale"]))
        return base + settings.strength * (merged(result, base) - base)


def as_tensor(picture: Picture) -> Tensor:
    """Return values in [0,1], (C,H,W), with colours under full transparency replaced by the nearest that is seen."""
    values = picture.values
    if picture.alpha is not None and (hidden := picture.alpha == 0).any() and not hidden.all():
        rows, columns = scipy.ndimage.distance_transform_edt(hidden, return_distances=False, return_indices=True)
        values = values[rows, columns]
    return torch.from_numpy(values.astype(np.float32) / picture.white).movedim(2, 0).contiguous()


def _as_stored(image: Tensor, picture: Picture) -> np.ndarray:
    values = (image.movedim(0, 2) * picture.white).round_().clamp_(0, picture.white)
    return np.ascontiguousarray(values.numpy(), picture.values.dtype)


def planes_of(image: Tensor, channels: int) -> Tensor:
    """Return what a net for `channels` is given for an image (1,H,W), (3,H,W) or CMYK (4,H,W): (B,channels,H,W)."""
    if len(image) == 4:
        inks = 1 - image
        return inks[:, None] if channels == 1 else torch.stack([inks[:3], inks[3:].expand(3, -1, -1)])
    if len(image) == channels:
        return image[None]
    return image.expand(1, 3, -1, -1) if channels == 3 else luma(image)[None]


def merged(result: Tensor, base: Tensor) -> Tensor:
    """Return what a net made of `planes_of` as an image (C,H,W) like `base`, whose colours a net for grey keeps."""
    if len(base) == 4:
        inks = result[:, 0] if len(result) == 4 else torch.cat([result[0], result[1].mean(0, keepdim=True)])
        return 1 - inks
    if result.shape[1] == len(base):
        return result[0]
    return result[0].mean(0, keepdim=True) if len(base) == 1 else base + (result[0] - luma(base))


def luma(image: Tensor) -> Tensor:
    """Return the luminance (1,H,W) of an image (3,H,W)."""
    return (image * image.new_tensor(_LUMA).view(3, 1, 1)).sum(0, keepdim=True)


def enlarged(image: Tensor, scale: int) -> Tensor:
    """Enlarge an image (C,H,W) bicubically; the image itself for a scale of 1."""
    height, width = image.shape[1:]
    return resize(image[None], (scale * height, scale * width), "bicubic_matlab")[0]


def runner(weights: Weights, settings: Settings, done: Done = _nothing) -> Net:
    """Return what applies a net to images (1,C',H,W), by tiles where they are larger than one.

    Raises:
        InputError: the net is given the level of the noise, and the settings have none.
    """
    reach, tile = weights.about.reach, settings.tile
    net = weights.on(settings.device)
    scale = int(weights.about.facts["scale"])
    if weights.about.noise_map and settings.sigma is None:
        raise InputError("sigma: these weights are given the level of the noise; give it, such as sigma=25/255")

    def whole(image: Tensor) -> Tensor:
        height, width = image.shape[2:]
        below, right = max(0, LEAST_SIDE - height), max(0, LEAST_SIDE - width)
        image = F.pad(image, (0, right, 0, below), "replicate")
        if weights.about.noise_map:
            image = torch.cat([image, torch.full_like(image[:, :1], settings.sigma or 0.0)], 1)
        restored: Tensor = net(image.to(settings.device)).float().cpu()
        return restored[..., : scale * height, : scale * width]

    def once(image: Tensor) -> Tensor:
        if tile is not None and reach is not None and max(image.shape[2:]) > tile:
            return tiled(whole, image, reach, max(1, tile // reach.stride) * reach.stride, done)
        result = whole(image)
        done(image.shape[2] * image.shape[3])
        return result

    return (lambda image: _mean_of_turns(once, image)) if settings.ensemble == 8 else once


def _mean_of_turns(net: Net, image: Tensor) -> Tensor:
    """Return the mean of what a net makes of an image (1,C,H,W) and of its seven turns and mirror images."""
    parts = []
    for turns in range(4):
        turned = image.rot90(turns, (2, 3))
        parts += [net(turned).rot90(-turns, (2, 3)), net(turned.flip(3)).flip(3).rot90(-turns, (2, 3))]
    return torch.stack(parts).mean(0)
