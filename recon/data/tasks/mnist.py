"""The sets in MNIST's file format: handwritten digits and clothing."""

import gzip
from pathlib import Path
from typing import ClassVar

import numpy as np

from recon.data.download import fetch
from recon.data.store import ImageStore
from recon.data.task import Splits, TenClasses

# The training images and labels, then those of the test.
_FILES = (
    "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz",
)  # fmt: skip


class MNIST(TenClasses):
    """Handwritten digits (LeCun, Cortes & Burges 1998): 60,000 images to train and 10,000 to test, 28x28 pixels."""

    image_shape = (1, 28, 28)
    folder = "mnist"
    md5: ClassVar = (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873", "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3", "ec29112dd5afa0611ce80d1b7f02629c",
    )  # fmt: skip
    urls: ClassVar = [
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "https://storage.googleapis.com/cvdf-datasets/mnist",
    ]

    def load(self, root: Path) -> Splits:
        """Read the images, downloading the files that are missing."""
        files = fetch(root / self.folder, dict(zip(_FILES, self.md5, strict=True)), self.urls)
        images, labels, test_images, test_labels = map(_read_idx, files)
        return self.split(
            ImageStore.from_arrays(images[:, None], labels), ImageStore.from_arrays(test_images[:, None], test_labels)
        )


class FashionMNIST(MNIST):
    """Pictures of clothing (Xiao, Rasul & Vollgraf 2017, https://arxiv.org/abs/1708.07747), in the format of MNIST."""

    class_names = (
        "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    )  # fmt: skip
    folder = "fashion-mnist"
    md5: ClassVar = (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310",
    )  # fmt: skip
    urls: ClassVar = ["http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"]


def _read_idx(path: Path) -> np.ndarray:
    """Read a gzipped idx file of bytes: two zeros, the type 8, the rank, the big-endian sizes, then the values."""
    data = gzip.decompress(path.read_bytes())
    rank = data[3]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(np.frombuffer(data, ">i4", rank, offset=4))
