"""Which pixels are to be filled: by a mask, by a colour that was painted over them, or scratches that are found."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import scipy  # whose parts are imported when they are first used
import torch

from recon.errors import InputError
from recon.filters.resize import resize
from recon.restore.picture import Picture, read_picture

_COLOUR = re.compile(r"#?([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")
_NEAR = {True: 0, False: 40}  # levels of 255 by which a painted colour may be off, where nothing was lost and else
_LINE = 7  # pixels, more than a scratch is wide
_SEGMENT = 41  # pixels of a straight piece of a scratch
_DIRECTIONS = 24
_WHOLE = 0.93  # how much of a piece must stand out
_CLEARER = 5.0  # times the usual contrast of thin structures around it
_LEAST_CONTRAST = 0.08  # of white
_LONGER = 0.1  # of the shorter side: what is shorter is no scratch
_THICKEST = 5.0  # pixels on average


def hole_of_mask(path: Path, shape: tuple[int, int], is_resized: bool, max_pixels: int) -> np.ndarray:
    """Read a mask, white (the upper half of its range) where pixels are to be filled: (H,W) bool.

    Raises:
        BadImage: see `read_picture`.
        InputError: it has another size than the picture, and `is_resized` is false.
    """
    mask = read_picture(path, max_pixels)
    values = mask.values.astype(np.float32).mean(2) / mask.white
    if values.shape != shape:
        if not is_resized:
            raise InputError(
                f"mask: {path} has {values.shape[1]}×{values.shape[0]} pixels and the picture {shape[1]}×{shape[0]}; "
                "give a mask of its size, or set mask_resize=true"
            )
        values = resize(torch.from_numpy(values)[None, None], shape, "bilinear")[0, 0].numpy()
    hole: np.ndarray = values >= 0.5
    return hole


def hole_of_colour(picture: Picture, colour: str) -> np.ndarray:
    """Return where a picture has a colour such as "#ff00ff": (H,W) bool; of a lossy file, nearly and one pixel around.

    Raises:
        InputError: it is no colour, or the picture is not in RGB.
    """
    match = _COLOUR.fullmatch(colour)
    if match is None:
        raise InputError(f"mask_color: {colour!r} is no colour; write it as #ff00ff")
    if picture.values.shape[2] != 3:
        raise InputError("mask_color: the picture has no colours of RGB; give a mask=<file> instead")
    wanted = np.array([int(part, 16) for part in match.groups()]) * (picture.white // 255)
    near = _NEAR[picture.lossless] * (picture.white // 255)
    hole: np.ndarray = (np.abs(picture.values.astype(np.int32) - wanted) <= near).all(2)
    return hole if picture.lossless else scipy.ndimage.binary_dilation(hole, iterations=1)


def scratches(picture: Picture) -> np.ndarray:
    """Find thin structures, much brighter or darker than what is on both sides of them, nearly straight and long.

    What is at most a few pixels wide is what a morphological opening or closing removes. Of that, what stands out from
    the fine structures around it along a whole straight piece is kept, with what is connected to it.

    Args:
        picture: of any mode.

    Returns:
        (H,W) bool.
    """
    luma = picture.values[..., :3].astype(np.float32).mean(2) / picture.white
    smooth = scipy.ndimage.gaussian_filter(luma, 0.7)
    hole = np.zeros(luma.shape, bool)
    for thin in (
        smooth - scipy.ndimage.grey_opening(smooth, _LINE),
        scipy.ndimage.grey_closing(smooth, _LINE) - smooth,
    ):
        usual = scipy.ndimage.uniform_filter(thin, 8 * _LINE + 1)
        hole |= _lines(thin > np.maximum(_CLEARER * usual, _LEAST_CONTRAST))
    wide: np.ndarray = scipy.ndimage.binary_dilation(hole, iterations=2)
    return wide


def _lines(candidates: np.ndarray) -> np.ndarray:
    """Keep the connected parts that hold a straight piece and are long and thin."""
    labels, count = scipy.ndimage.label(candidates, np.ones((3, 3)))
    if count == 0:
        return candidates
    length = np.array(
        [np.hypot(*(part.stop - part.start for part in box)) for box in scipy.ndimage.find_objects(labels)]
    )
    is_line = length >= max(_SEGMENT, _LONGER * min(candidates.shape))
    is_line &= np.bincount(labels.ravel(), minlength=count + 1)[1:] <= _THICKEST * length
    straight = np.unique(labels[_straight(np.concatenate([[False], is_line])[labels])])
    found: np.ndarray = np.isin(labels, straight[straight > 0])
    return found


def _straight(candidates: np.ndarray) -> np.ndarray:
    """Return the middles of the straight pieces that stand out almost wholly."""
    wide = scipy.ndimage.binary_dilation(candidates).astype(np.float32)
    angles = np.arange(_DIRECTIONS) * np.pi / _DIRECTIONS
    steps = np.arange(_SEGMENT) - _SEGMENT // 2
    found = np.zeros(candidates.shape, bool)
    for angle in angles:
        kernel = np.zeros((_SEGMENT, _SEGMENT), np.float32)
        kernel[np.rint(steps * np.sin(angle)).astype(int) + _SEGMENT // 2,
               np.rint(steps * np.cos(angle)).astype(int) + _SEGMENT // 2] = 1  # fmt: skip
        found |= scipy.signal.fftconvolve(wide, kernel / kernel.sum(), "same") >= _WHOLE
    found &= candidates
    return found
