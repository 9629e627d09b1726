"""EDSR: sizes, the paper's counts, where it begins."""

import pytest
import torch
from skimage import data
from torch import Tensor, nn

from recon.errors import InputError
from recon.filters.resize import resize
from recon.nets.edsr import EDSR


def edsr(scale: int, channels: int = 3, more: int = 0, blocks: int = 2, width: int = 8) -> EDSR:
    torch.manual_seed(0)
    return EDSR(
        in_channels=channels + more, channels=channels, scale=scale, blocks=blocks, width=width, residual_scale=1.0
    )


def photograph() -> Tensor:
    return torch.from_numpy(data.astronaut()[100:120, 200:233]).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("size", [(4, 4), (8, 8), (13, 21)], ids=str)
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 6])
@pytest.mark.parametrize(("channels", "more"), [(1, 0), (3, 1)])
def test_the_output_is_scale_times_larger(channels: int, more: int, scale: int, size: tuple[int, int]) -> None:
    net = edsr(scale, channels, more)
    output = net(torch.rand(2, channels + more, *size))
    assert output.shape == (2, channels, scale * size[0], scale * size[1])
    output.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_it_begins_at_the_bicubic_image(scale: int) -> None:
    image = photograph()
    expected = resize(image, [scale * side for side in image.shape[2:]], "bicubic")
    torch.testing.assert_close(edsr(scale)(image), expected, atol=2e-6, rtol=0)


def test_it_learns_the_detail_of_one_image() -> None:
    clean = photograph()[..., :32]
    small = resize(clean, (10, 16), "bicubic_matlab")
    net = edsr(2, width=16)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (net(small) - clean).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def test_the_baseline_of_the_paper() -> None:
    """Its table 1: 1.5 million weights in 16 blocks of 64 (1.37 at ×2, 1.52 at ×4), 43 in 32 of 256 (at ×4)."""

    def millions(scale: int, blocks: int, width: int) -> float:
        with torch.device("meta"):
            return sum(weight.numel() for weight in edsr(scale, 3, 0, blocks, width).parameters()) / 1e6

    assert millions(4, 16, 64) == pytest.approx(1.518, abs=1e-3)
    assert millions(2, 16, 64) == pytest.approx(1.370, abs=1e-3)
    assert millions(4, 32, 256) == pytest.approx(43.1, abs=0.1)


def test_four_times_is_twice_twice() -> None:
    shuffles = [layer.upscale_factor for layer in edsr(12).modules() if isinstance(layer, nn.PixelShuffle)]
    assert shuffles == [2, 2, 3]


def test_the_residual_scale_multiplies_each_block() -> None:
    net = EDSR(in_channels=1, channels=1, scale=1, blocks=1, width=4, residual_scale=0.5)
    block, x = net.body[0], torch.rand(1, 4, 6, 6)
    torch.testing.assert_close(block(x) - x, 0.5 * block.body(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(dtype: torch.dtype) -> None:
    assert edsr(2).to(dtype)(photograph().to(dtype)).dtype == dtype
    with torch.autocast("cpu", torch.bfloat16):
        assert edsr(2)(photograph()).isfinite().all()


@pytest.mark.parametrize(("scale", "least"), [(1, 4), (2, 2), (3, 2), (4, 1)])
def test_what_becomes_smaller_than_4x4_is_refused(scale: int, least: int) -> None:
    edsr(scale)(torch.rand(1, 3, least, least))
    with pytest.raises(InputError, match=rf"EDSR needs images of at least {least}x{least} pixels"):
        edsr(scale)(torch.rand(1, 3, least, least - 1))
