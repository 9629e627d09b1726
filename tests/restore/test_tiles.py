"""Tiles give the whole picture, and the halo that is measured is the least that does."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from recon.nets import DRU, EDSR, DnCNN, FFDNet, GatedUNet, UNet
from recon.nets.receptive import make_positive, receptive_radius, stride
from recon.restore.tiles import Reach, tiled

NETS: dict[str, tuple[Callable[[], nn.Module], int, int, int]] = {  # radius, stride, scale
    "dru": (lambda: DRU(widths=[4, 8, 8], blocks=1), 51, 8, 1),
    "dru, its default": (DRU, 91, 8, 1),
    "dncnn": (lambda: DnCNN(depth=5, width=4), 5, 1, 1),
    "ffdnet": (lambda: FFDNet(depth=4, width=8), 9, 2, 1),
    "gated_unet": (lambda: GatedUNet(widths=[4, 4, 4]), 23, 4, 1),
    "unet": (UNet, 23, 4, 1),
    "edsr": (lambda: EDSR(blocks=2, width=4, scale=2), 8, 1, 2),
}


def made(name: str) -> tuple[nn.Module, Reach]:
    make, radius, step, scale = NETS[name]
    net = make().double().eval().requires_grad_(False)
    make_positive(net, torch.Generator().manual_seed(1))
    return net, Reach(radius, step, scale)


@pytest.mark.parametrize("name", NETS)
def test_radius_and_stride_are_measured(name: str) -> None:
    net, reach = made(name)
    radius = receptive_radius(net, scale=reach.scale)
    assert radius is not None
    assert Reach(radius, stride(net, radius, scale=reach.scale) or 0, reach.scale) == reach


def worst(net: nn.Module, reach: Reach, radius: int) -> float:
    """Compare tiles of several sides with the whole picture."""
    image = torch.rand(1, 1, 2 * reach.radius + 71, 2 * reach.radius + 43, dtype=torch.float64)
    whole = net(image)
    sides = [reach.radius + 20 + phase for phase in range(reach.stride)]
    tiles = (tiled(net, image, reach._replace(radius=radius), side) for side in sides)
    return max(float((part / whole - 1).abs().max()) for part in tiles)


@pytest.mark.parametrize("name", [name for name in NETS if "default" not in name])
def test_tiles_are_the_whole_picture_and_one_pixel_less_of_halo_is_not(name: str) -> None:
    net, reach = made(name)
    assert worst(net, reach, reach.radius) < 1e-12
    assert worst(net, reach, reach.radius - 1) > 1e-11


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (64, 1), (67, 131)])
@pytest.mark.parametrize("tile", [7, 64, 1000])
def test_any_size_and_any_tile(size: tuple[int, int], tile: int) -> None:
    net = nn.Conv2d(1, 2, 5, padding=2).double().requires_grad_(False)
    image = torch.rand(1, 1, *size, dtype=torch.float64)
    torch.testing.assert_close(tiled(net, image, Reach(2, 1), tile), net(image), rtol=0, atol=1e-14)


def test_tiles_are_halved_when_memory_is_short_and_every_pixel_is_computed() -> None:
    net = nn.Conv2d(1, 1, 3, padding=1).double().requires_grad_(False)
    sides = []

    def small(image: Tensor) -> Tensor:
        if image.shape[2] > 24 or image.shape[3] > 24:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sides.append(max(image.shape[2:]))
        result: Tensor = net(image)
        return result

    image = torch.rand(1, 1, 99, 61, dtype=torch.float64)
    pixels: list[int] = []
    torch.testing.assert_close(tiled(small, image, Reach(1, 1), 64, pixels.append), net(image), rtol=0, atol=1e-14)
    assert sum(pixels) == 99 * 61
    assert max(sides) <= 24


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    def broken(image: Tensor) -> Tensor:
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        tiled(broken, torch.zeros(1, 1, 9, 9), Reach(1, 1), 4)
