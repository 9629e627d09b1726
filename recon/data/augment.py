"""Random changes of the clean images that make a training set larger."""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from recon import keyed
from recon.degradations import Brightness, Contrast, Decolourise, Identity, OneOf, Quantise, Rotate, Shear, Translate
from recon.degradations.batch import as_float
from recon.errors import InputError
from recon.ranges import require_number, require_whole

# Of an erased rectangle: the least and largest share of the image's area, and the largest ratio of its sides.
_AREA, _RATIO = (0.02, 1 / 3), 3.0


class Augment:
    """Flip, turn, rotate, shift and change whole batches otherwise, each image by its own key.

    Args:
        flip: mirror half of the images left to right.
        turns: any of the eight flips and quarter turns, for square images without an up or down.
        rotate: the largest angle of rotations in degrees either way; bilinear, the border pixels continued outwards.
        crop_padding: pad by this many zero pixels and crop to the old size at random (He et al. 2016 use 4).
        operators: how many operators change each image, one after the other, each drawn from those of `operators_of`.
            After Cubuk, Zoph, Shlens & Le, "RandAugment: practical automated data augmentation with a reduced search
            space", NeurIPS 2020.
        magnitude: how far the operators go at most, in [0,1].
        erase: the share of the images of which a rectangle is filled with noise. Zhong, Zheng, Kang, Li & Yang,
            "Random erasing data augmentation", AAAI 2020.

    Raises:
        InputError: an option is out of its bounds.
    """

    def __init__(
        self,
        flip: bool = False,
        turns: bool = False,
        rotate: float = 0.0,
        crop_padding: int = 0,
        operators: int = 0,
        magnitude: float = 0.5,
        erase: float = 0.0,
    ) -> None:
        if not (isinstance(rotate, (int, float)) and 0 <= rotate <= 180):
            raise InputError(f"augment.rotate must be between 0 and 180 degrees, not {rotate!r}.")
        if not (isinstance(crop_padding, int) and crop_padding >= 0):
            raise InputError(f"augment.crop_padding must be a whole number of at least 0, not {crop_padding!r}.")
        require_whole("augment.operators", operators, 0, 10)
        require_number("augment.magnitude", magnitude, 0, 1)
        require_number("augment.erase", erase, 0, 1)
        self.flip, self.turns, self.rotate, self.crop_padding = flip, turns, rotate, crop_padding
        self.operators, self.magnitude, self.erase = operators, magnitude, erase

    @property
    def rearranges(self) -> bool:
        """Return whether it only moves pixels and changes none, as flips and turns do."""
        return not (self.rotate or self.crop_padding or self.operators or self.erase)

    def __call__(self, images: Tensor, keys: Tensor) -> Tensor:
        """Change images (B,C,H,W), uint8 or float in [0,1], by their keys (B,) int64.

        Bytes are fastest and stay bytes unless they are rotated or meet operators.

        Raises:
            InputError: `turns` is on and the images are not square.
        """
        if self.turns:
            images = _turn(images, keyed.fold(keys, "turns"))
        if self.flip:
            images = _swap_half(images, images.flip(3), keyed.fold(keys, "flip"))
        if self.rotate:
            images = _rotate(as_float(images), keyed.fold(keys, "rotate"), self.rotate)
        if self.crop_padding:
            images = _shift(images, keyed.fold(keys, "crop"), self.crop_padding)
        for number in range(self.operators):
            drawn = operators_of(self.magnitude, min(images.shape[2:]))
            images = drawn(as_float(images), keyed.fold(keys, f"operator {number}")).image.clamp(0, 1)
        if self.erase:
            images = _erase(images, keyed.fold(keys, "erase"), self.erase)
        return images


@lru_cache
def operators_of(magnitude: float, side: int) -> OneOf:
    """Return one of eight operators by chance, of a strength up to `magnitude`; colour fades where there is any.

    Args:
        magnitude: in [0,1]; at 1 as far as RandAugment's scale of 10 goes.
        side: the shorter one of the images, in pixels.
    """
    deep = 8 - round(4 * magnitude)
    return OneOf(
        {
            "identity": Identity(),
            "rotate": Rotate([0, 30 * magnitude]),
            "shear": Shear([0, 17 * magnitude]),
            "translate": Translate([0, 0.3 * side * magnitude]),
            "contrast": Contrast([1 - 0.9 * magnitude, 1 + 0.9 * magnitude]),
            "brightness": Brightness([-0.5 * magnitude, 0.5 * magnitude]),
            "decolourise": Decolourise([0, 0.9 * magnitude]),
            "quantise": Quantise([deep, 8]),
        }
    )


def runs(buffer: Tensor, start: Tensor, length: int) -> Tensor:
    """Read `length` values from each start (n,) int64 in a buffer (values,): (n,length).

    The view holds every run of the buffer as a row without using memory, so that `index_select` copies whole runs: 8
    times faster than an index per value, and the index stays small for large images.
    """
    return buffer.as_strided((len(buffer) - length + 1, length), (1, 1)).index_select(0, start)


def _swap_half(images: Tensor, others: Tensor, keys: Tensor) -> Tensor:
    """Replace each image (B,) by its other version with probability 1/2.

    Whole images are copied by their index in the two batches together: 7 times faster than `torch.where` on bytes.
    """
    index = torch.arange(len(keys), device=keys.device) + len(keys) * keyed.integers(keys, 2)
    return torch.cat([images, others]).index_select(0, index)


def _turn(images: Tensor, keys: Tensor) -> Tensor:
    height, width = images.shape[2:]
    if height != width:
        raise InputError(f"augment.turns needs square images, not {height}×{width}: set augment.turns=false.")
    # Three independent reflections make each of the square's eight symmetries equally likely.
    images = _swap_half(images, images.transpose(2, 3), keyed.fold(keys, "transpose"))
    images = _swap_half(images, images.flip(2), keyed.fold(keys, "rows"))
    return _swap_half(images, images.flip(3), keyed.fold(keys, "columns"))


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
    plane = torch.arange(batch * channels, device=images.device).view(batch, channels, 1) * padded[0, 0].numel()
    row = corner[:, :1] + torch.arange(height, device=images.device)
    start = plane + (row * padded.shape[3] + corner[:, 1:]).unsqueeze(1)
    return runs(padded.view(-1), start.view(-1), width).view(images.shape)


def _erase(images: Tensor, keys: Tensor, share: float) -> Tensor:
    """Fill a rectangle of some images, of a drawn area, ratio of sides and place within them, with random bytes."""
    channels, height, width = images.shape[1:]
    (low, high), side = _AREA, keyed.uniform(keyed.fold(keys, "sides"), (2,)).double()
    area, ratio = low + (high - low) * side[:, 0], _RATIO ** (2 * side[:, 1] - 1)
    inside = (keyed.uniform(keyed.fold(keys, "whether")) < share).view(-1, 1, 1)
    place = keyed.uniform(keyed.fold(keys, "place"), (2,))
    for axis, (length, part) in enumerate(((height, (area * ratio).sqrt()), (width, (area / ratio).sqrt()))):
        extent = (part * length).round().clamp(1, length).long()
        first = (place[:, axis] * (length - extent + 1)).long().clamp(max=length - 1)
        along = torch.arange(length, device=images.device)
        hit = (along >= first.unsqueeze(1)) & (along < (first + extent).unsqueeze(1))
        inside = inside & hit.unsqueeze(2 - axis)
    count = channels * height * width
    noise = keyed.bits(keyed.fold(keys, "noise"), count).bitwise_and_(255).to(torch.uint8).view(images.shape)
    return torch.where(inside.unsqueeze(1), as_float(noise).to(images.dtype) if images.is_floating_point() else noise,
                       images)  # fmt: skip
