"""A few natural photographs that come with scikit-image and scikit-learn."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import ClassVar

from recon.data.images import read_image
from recon.data.store import ImageStore
from recon.data.task import Splits, Task, require_crops, require_positive
from recon.errors import InputError


@dataclass(kw_only=True)
class Photos(Task):
    """Seven natural RGB photographs that scikit-image and scikit-learn ship; two lossless ones are test.

    Attributes:
        crops_per_image: random crops of each training photograph in an epoch.
    """

    crops_per_image: int

    TRAIN: ClassVar = [
        ("skimage", "data/astronaut.png"),
        ("skimage", "data/motorcycle_left.png"),
        ("skimage", "data/rocket.jpg"),
        ("sklearn", "datasets/images/china.jpg"),
        ("sklearn", "datasets/images/flower.jpg"),
    ]
    TEST: ClassVar = [("skimage", "data/chelsea.png"), ("skimage", "data/coffee.png")]

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "crops_per_image")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (3,crop,crop)."""
        if self.side is None or self.side > 300:  # the smallest is 300 pixels high
            raise InputError(f"task.crop={self.crop} does not suit photographs of many sizes: give a number up to 300.")
        return 3, self.side, self.side

    @property
    def num_classes(self) -> int:
        """Return 0: there are no labels."""
        return 0

    def load(self, root: Path) -> Splits:
        """Read the photographs; nothing is downloaded."""
        _ = self.shape  # refuses a crop that does not fit
        require_crops(self, len(self.TRAIN), self.crops_per_image)
        train, test = (
            ImageStore.from_arrays(
                [read_image(Path(str(files(package))) / path, 3) for package, path in places],
                names=[Path(path).name for _, path in places],
            )
            for places in (self.TRAIN, self.TEST)
        )
        return self.split(train, test, self.crops_per_image)
