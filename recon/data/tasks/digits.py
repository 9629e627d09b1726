"""Handwritten digits that come with scikit-learn."""

from pathlib import Path

import numpy as np

from recon.data.store import ImageStore
from recon.data.task import Splits, TenClasses


class Digits(TenClasses):
    """The 1,797 handwritten digits of 8x8 pixels that scikit-learn ships; the last 360 are test.

    The values 0..16 become round(v·255/16). See https://scikit-learn.org/stable/datasets/toy_dataset.html.
    """

    image_shape = (1, 8, 8)

    def load(self, root: Path) -> Splits:
        """Read the images; nothing is downloaded."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
        train, test = slice(None, 1437), slice(1437, None)
        return self.split(
            ImageStore.from_arrays(images[train], digits.target[train]),
            ImageStore.from_arrays(images[test], digits.target[test]),
        )
