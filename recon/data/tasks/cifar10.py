"""Small colour photographs in ten classes."""

import os
import tarfile
import warnings
from pathlib import Path
from typing import ClassVar

import numpy as np

from recon.data.download import fetch
from recon.data.store import ImageStore
from recon.data.task import Splits, TenClasses
from recon.errors import InputError


class CIFAR10(TenClasses):
    """Small colour photographs (Krizhevsky 2009): 50,000 images to train and 10,000 to test, 32x32 pixels.

    Reads the binary version, in which a record is one byte of label and 3072 of pixels in the order C, H, W. A folder
    that holds only some of the training batches and `test_first1000.bin`, the first 1,000 records of the test batch,
    is used as it is, with a warning.
    """

    image_shape = (3, 32, 32)
    class_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    md5: ClassVar = {"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"}
    urls: ClassVar = ["https://www.cs.toronto.edu/~kriz"]

    def load(self, root: Path) -> Splits:
        """Read the images, downloading and unpacking the archive when the files are missing."""
        folder = root / "cifar10" / "cifar-10-batches-bin"
        train = [folder / f"data_batch_{number}.bin" for number in range(1, 6)]
        test, excerpt = folder / "test_batch.bin", folder / "test_first1000.bin"
        present = [path for path in train if path.is_file()]
        if present and excerpt.is_file() and not (len(present) == 5 and test.is_file()):
            warnings.warn(
                f"{folder} is not the whole of CIFAR-10: training uses {len(present)} of the 5 batches, "
                "and figures are on the first 1,000 test images.",
                stacklevel=2,
            )
            return self.split(_read_records(present, 10_000), _read_records([excerpt], 1000))
        if not all(path.is_file() for path in [*train, test]):
            [archive] = fetch(root / "cifar10", self.md5, self.urls)
            _unpack(archive, folder, [path.name for path in [*train, test]])
        return self.split(_read_records(train, 10_000), _read_records([test], 10_000))


def _unpack(archive: Path, folder: Path, names: list[str]) -> None:
    """Write the named files of a verified archive into `folder`; paths inside the archive are not followed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as tar:
            for name in names:
                stream = tar.extractfile(f"{folder.name}/{name}")
                assert stream is not None  # the checksum guarantees plain files
                part = folder / f".{name}.{os.getpid()}.part"
                part.write_bytes(stream.read())
                part.replace(folder / name)
    except OSError as error:
        raise InputError(
            f"{archive} cannot be unpacked to {folder} ({error.strerror}): free some space there, "
            "or set data.root (or RECON_DATA) to a folder that can be written."
        ) from error


def _read_records(paths: list[Path], count: int) -> ImageStore:
    """Read CIFAR-10's binary files of `count` records each."""
    parts = [np.fromfile(path, np.uint8) for path in paths]
    for path, part in zip(paths, parts, strict=True):
        if part.size != count * 3073 or part[::3073].max() > 9:
            raise InputError(
                f"{path} is not a file of {count} CIFAR-10 records: remove it, so that it is fetched again."
            )
    records = np.concatenate(parts).reshape(-1, 3073)
    return ImageStore.from_arrays(records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0])
