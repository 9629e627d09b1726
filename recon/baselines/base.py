"""What a classical method is: it restores images from what is known of their damage, and has no weights."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recon.degradations.base import Chain, Degradation
from recon.errors import InputError
from recon.pair import Pair

Array = NDArray[np.float64]


class Method(nn.Module, ABC):
    """A classical method.

    Attributes:
        name: as it is typed.
    """

    name: ClassVar[str]

    def prepare_for(self, damage: Degradation) -> None:
        """Take note of the damage; raises InputError, before any image is read, where the method is not for it."""
        if damage.scale > 1:
            raise InputError(
                f"model.method: {self.name} keeps the size of images, and this degradation makes them {damage.scale} "
                "times smaller; choose model.method=bicubic, or set degradation.upsample=bicubic"
            )

    @abstractmethod
    def forward(self, pair: Pair) -> Tensor:
        """Restore the degraded images of a batch, each by itself: (B,C,H,W) float32 on their device."""


def steps_of(damage: Degradation) -> tuple[Degradation, ...]:
    """Return the steps of a chain, in order, or the damage itself."""
    return tuple(damage.steps.values()) if isinstance(damage, Chain) else (damage,)


def level_of(step: Degradation, damage: Degradation, severity: float) -> float | None:
    """Return the level of a step of a damage for an image of a severity; None where it is not known.

    A constant level is known. A drawn one is the severity if the damage records that of this step; images that no
    degradation has damaged have a severity of 0.
    """
    low, high = step.level
    if low == high:
        return low
    leading = next(each for each in steps_of(damage) if each.level[0] < each.level[1])
    return severity if step is leading and low <= severity <= high else None


def to_arrays(images: Tensor) -> list[Array]:
    """Convert images (B,C,H,W) to B arrays (H,W,C)."""
    return list(images.detach().double().permute(0, 2, 3, 1).contiguous().cpu().numpy())


def for_each(work: Callable[..., Array], like: Tensor, *columns: Iterable[Any]) -> Tensor:
    """Work on single images in threads, as many as torch uses: (B,C,H,W) float32 on the device of `like`.

    Threads, as the loops of scikit-image, NumPy, SciPy and PyWavelets free the interpreter: processes would import all
    of them anew and copy each image twice.

    Args:
        work: makes an image (H,W,C) of one entry of each column.
        like: (B,C,H,W).
        columns: B entries each.
    """
    _, channels, height, width = like.shape
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        # scikit-image leaves out a single channel.
        images = [image.reshape(height, width, channels) for image in pool.map(work, *columns)]
    restored = np.stack(images)
    return torch.from_numpy(restored).permute(0, 3, 1, 2).float().contiguous().to(like.device)
