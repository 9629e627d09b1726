"""Handwritten digits that come with scikit-learn."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recon.data.store import ImageStore
from recon.data.task import Splits, TenClasses


class Digits(TenClasses):
    """The 1,797 handwritten digits of 8x8 pixels that scikit-learn ships; the last 360 are test.

    The values 0..16 become round(v·255/16). See https://scikit-learn.org/stable/datasets/toy_dataset.html.
    """

    image_shape = (1, 8, 8)

    def load(self, root: Path) -> Splits:
        """Read the images; nothing is downloaded."""
        table = _table()
        images, labels = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8), table[:, -1]
        train, test = slice(None, 1437), slice(1437, None)
        return self.split(
            ImageStore.from_arrays(images[train], labels[train]), ImageStore.from_arrays(images[test], labels[test])
        )


def _table() -> NDArray[np.int64]:
    """Read the digits: (1797,65) int64, of each its 64 values from 0 to 16 and its label.

    The file itself is read where it is, as importing scikit-learn takes a quarter of the CPU time of a run of one step.
    """
    package = find_spec("sklearn")
    if package and package.origin:
        file = Path(package.origin).with_name("datasets") / "data" / "digits.csv.gz"
        if file.exists():
            return np.loadtxt(file, dtype=np.int64, delimiter=",")
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.column_stack([digits.data, digits.target]).astype(np.int64)
