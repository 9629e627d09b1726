"""Random changes of the clean images that make a training set larger."""

import torch
from torch import Tensor
from torch.nn import functional as F

from recon import keyed
from recon.errors import InputError


class Augment:
    """Flip, turn, rotate and shift whole batches, each image by its own key.

    Args:
        flip: mirror every other image left to right.
        turns: any of the eight flips and quarter turns, for square images without an up or down.
        rotate: rotate by up to so many degrees either way, bilinear, the border pixels continued outwards.
        crop_padding: pad by so many zero pixels and cut the old size out again somewhere (He et al. 2016 use 4).

    Raises:
        InputError: an option is out of its bounds.
    """

    def __init__(self, flip: bool = False, turns: bool = False, rotate: float = 0.0, crop_padding: int = 0) -> None:
        if not (isinstance(rotate, (int, float)) and 0 <= rotate <= 180):
            raise InputError(f"augment.rotate must be between 0 and 180 degrees, not {rotate!r}.")
        if not (isinstance(crop_padding, int) and crop_padding >= 0):
            raise InputError(f"augment.crop_padding must be a whole number of at least 0, not {crop_padding!r}.")
        self.flip = flip
        self.turns = turns
        self.rotate = rotate
        self.crop_padding = crop_padding

    def __call__(self, images: Tensor, keys: Tensor) -> Tensor:
        """Change images (B,C,H,W) float by their keys (B,) int64.

        Raises:
            InputError: `turns` is on and the images are not square.
        """
        if self.turns:
            images = _turn(images, keyed.fold(keys, "turns"))
        if self.flip:
            images = torch.where(_coin(keyed.fold(keys, "flip")), images.flip(3), images)
        if self.rotate:
            images = _rotate(images, keyed.fold(keys, "rotate"), self.rotate)
        if self.crop_padding:
            images = _shift(images, keyed.fold(keys, "crop"), self.crop_padding)
        return images


def _coin(keys: Tensor) -> Tensor:
    """Toss one fair coin per image: (B,1,1,1) bool."""
    return keyed.integers(keys, 2).bool().view(-1, 1, 1, 1)


def _turn(images: Tensor, keys: Tensor) -> Tensor:
    height, width = images.shape[2:]
    if height != width:
        raise InputError(f"augment.turns needs square images, not {height}×{width}: set augment.turns=false.")
    # Three independent reflections make each of the square's eight symmetries equally likely.
    images = torch.where(_coin(keyed.fold(keys, "transpose")), images.transpose(2, 3), images)
    images = torch.where(_coin(keyed.fold(keys, "rows")), images.flip(2), images)
    return torch.where(_coin(keyed.fold(keys, "columns")), images.flip(3), images)


def _rotate(images: Tensor, keys: Tensor, degrees: float) -> Tensor:
    height, width = images.shape[2:]
    angle = torch.deg2rad((2 * keyed.uniform(keys) - 1) * degrees)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # `affine_grid` measures each axis in half sides, so that a rotation of an oblong image needs their ratio.
    rows = [torch.stack([cos, -sin * (height / width), zero], 1), torch.stack([sin * (width / height), cos, zero], 1)]
    grid = F.affine_grid(torch.stack(rows, 1).to(images.dtype), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _shift(images: Tensor, keys: Tensor, padding: int) -> Tensor:
    batch, channels, height, width = images.shape
    padded = F.pad(images, [padding] * 4)
    corner = keyed.integers(keys, 2 * padding + 1, (2,))
    row = corner[:, :1] + torch.arange(height, device=images.device)
    column = corner[:, 1:] + torch.arange(width, device=images.device)
    place = row.unsqueeze(2) * padded.shape[3] + column.unsqueeze(1)
    place = place.view(batch, 1, -1).expand(-1, channels, -1)
    return padded.flatten(2).gather(2, place).view(batch, channels, height, width)
