"""What the tests of degradations share: real images of any size, and keys."""

from functools import lru_cache

import torch
from skimage import data
from sklearn.datasets import load_digits
from torch import Tensor

from recon import keyed

COUNT = 24
SIZES = [(1, 8, 8), (1, 28, 28), (3, 37, 53)]


@lru_cache
def images(size: tuple[int, int, int], count: int = COUNT) -> Tensor:
    """Real images (count,*size): digits, or patches of photographs, up to 512×512."""
    channels, height, width = size
    if size == (1, 8, 8):
        return torch.from_numpy(load_digits().images[:count]).float().div(16).unsqueeze(1)
    photograph = torch.from_numpy(data.astronaut() if channels == 3 else data.camera()[..., None])
    room = torch.tensor(photograph.shape[:2]) - torch.tensor([height, width]) + 1
    top, left = 7 * torch.arange(count) % room[0], 11 * torch.arange(count) % room[1]
    patches = [photograph[t : t + height, w : w + width] for t, w in zip(top, left, strict=True)]
    return torch.stack(patches).permute(0, 3, 1, 2).float().div(255)


def keys(count: int = COUNT, seed: int = 0) -> Tensor:
    return keyed.keys(seed, "test", 0, torch.arange(count))
