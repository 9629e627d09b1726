"""Looking for an image in a picture."""

import numpy as np


def found_in(sheet: np.ndarray, tile: np.ndarray) -> int:
    """Count at how many places of a picture (H,W,3) an image (h,w,3) is, pixel for pixel."""
    (height, width), (rows, columns) = sheet.shape[:2], tile.shape[:2]
    corners = np.argwhere((sheet[: height - rows + 1, : width - columns + 1] == tile[0, 0]).all(-1))
    for row, column in np.random.default_rng(0).integers(0, (rows, columns), (60, 2)):
        corners = corners[(sheet[corners[:, 0] + row, corners[:, 1] + column] == tile[row, column]).all(-1)]
    return sum((sheet[y : y + rows, x : x + columns] == tile).all() for y, x in corners)
