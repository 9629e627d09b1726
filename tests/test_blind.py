"""Losses without clean images, and Stein's estimate, against closed forms."""

import math

import pytest
import torch
from torch.nn import functional as F

from recon import keyed, metrics
from recon.errors import InputError
from recon.losses import Neighbor2Neighbor, Noise2Void, SureLoss
from recon.losses.blind import neighbours, sampled
from recon.metrics.sure import psnr_of, sure, sure_psnr

SIDE = 6


def keys(count, stream="test"):
    return keyed.keys(0, stream, 0, torch.arange(count))


def linear(seed=0):
    """A linear filter of images of SIDE x SIDE pixels, as a matrix and as a net."""
    matrix = torch.randn(SIDE**2, SIDE**2, generator=torch.Generator().manual_seed(seed)) / SIDE
    return matrix, lambda images: (images.flatten(1) @ matrix.T).view_as(images)


# Stein's estimate ---------------------------------------------------------------------------------------------------


def test_the_divergence_of_a_linear_filter_is_the_trace_of_its_matrix():
    matrix, net = linear()
    count, sigma = 4096, 0.3
    noisy = torch.rand(1, 1, SIDE, SIDE).expand(count, -1, -1, -1)
    found = sure(net, noisy, torch.full((count,), sigma), keys(count)).double()
    exact = (net(noisy[:1]) - noisy[:1]).square().mean() - sigma**2 + 2 * sigma**2 * matrix.trace() / SIDE**2
    # A probe of ±1 sees what is beside the diagonal: Hutchinson's variance, of the symmetric part.
    beside = (matrix + matrix.T) / 2
    beside = beside - beside.diag().diag()
    spread = 2 * sigma**2 / SIDE**2 * (2 * beside.square().sum()).sqrt().item()
    assert found.std() == pytest.approx(spread, rel=0.1)
    assert found.mean() == pytest.approx(exact.item(), abs=4 * spread / math.sqrt(count))


def test_a_filter_of_each_pixel_alone_is_known_exactly():
    weight = torch.rand(SIDE, SIDE)
    noisy, sigma = torch.rand(3, 2, SIDE, SIDE), torch.tensor([0.0, 0.1, 0.5])
    exact = (weight * noisy - noisy).square().mean((1, 2, 3)) - sigma.square() + 2 * sigma.square() * weight.mean()
    torch.testing.assert_close(sure(lambda images: images * weight, noisy, sigma, keys(3)), exact, rtol=1e-4, atol=1e-6)


def test_the_estimate_is_unbiased():
    """Over draws of noise its mean is the true risk, |(A-1)x|² + sigma² tr AᵀA, per pixel."""
    matrix, net = linear(1)
    count, sigma = 20_000, 0.2
    clean = torch.rand(1, 1, SIDE, SIDE)
    noisy = clean + sigma * keyed.normal(keys(count, "noise"), (1, SIDE, SIDE))
    risk = (net(clean) - clean).square().mean() + sigma**2 * matrix.square().sum() / SIDE**2
    found = sure(net, noisy, torch.full((count,), sigma), keys(count)).double()
    assert found.mean() == pytest.approx(risk.item(), abs=4 * found.std().item() / math.sqrt(count))


def test_without_noise_the_estimate_is_the_true_psnr():
    clean = torch.rand(2, 1, 32, 32)

    def net(images):
        return images * 1.3 - 0.1  # leaves [0,1], and is clamped

    found = sure_psnr(net, clean, torch.zeros(2), keys(2))
    torch.testing.assert_close(found, metrics.psnr(net(clean), clean))


def test_the_estimate_is_of_the_clamped_image():
    clean = (torch.rand(64, 1, 64, 64) > 0.5).float()  # black and white, where clamping helps most
    sigma = torch.full((64,), 0.1)
    noisy = clean + 0.1 * keyed.normal(keys(64, "noise"), (1, 64, 64))
    found = sure_psnr(lambda images: images, noisy, sigma, keys(64)).mean()
    assert found.item() == pytest.approx(metrics.psnr(noisy, clean).mean().item(), abs=0.1)
    assert found > 22.5  # without clamping it is 20


def test_an_estimate_below_its_standard_error_is_that():
    assert psnr_of(torch.tensor([-1.0]), torch.tensor([0.1]), 5000).item() == pytest.approx(-10 * math.log10(0.01 / 50))


def test_autocast_does_not_reach_the_estimate():
    net = torch.nn.Conv2d(1, 1, 3, padding=1)
    noisy, sigma = torch.rand(2, 1, 16, 16), torch.tensor([0.1, 0.2])
    with torch.no_grad():
        plain = sure_psnr(net, noisy, sigma, keys(2))
        with torch.autocast("cpu", torch.bfloat16):
            rounded = net(noisy)
            assert rounded.dtype == torch.bfloat16
            assert torch.equal(sure_psnr(net, noisy, sigma, keys(2), rounded), plain)
            loss = SureLoss()(net, noisy, sigma, keys(2))
    assert loss.dtype == torch.float32
    assert torch.equal(loss, SureLoss()(net, noisy, sigma, keys(2)))


# Neighbor2Neighbor --------------------------------------------------------------------------------------------------


def test_neighbours_are_two_pixels_of_a_cell_that_touch():
    first, second = neighbours(keys(50), 9, 7)
    assert first.shape == second.shape == (50, 9, 7)
    rows, columns = first // 2 - second // 2, first % 2 - second % 2
    assert (rows.abs() + columns.abs() == 1).all()
    counts = torch.bincount((4 * first + second).flatten(), minlength=16)
    assert (counts > 0).sum() == 8  # all ordered pairs, equally often
    share = counts[counts > 0] / counts.sum()
    assert share.sub(1 / 8).abs().max() < 4 * math.sqrt(1 / 8 * 7 / 8 / first.numel())


def test_a_sample_holds_the_pixels_that_were_drawn():
    images = torch.arange(2 * 3 * 8 * 6.0).view(2, 3, 8, 6)
    place, _ = neighbours(keys(2), 4, 3)
    found = sampled(images, place)
    for b, c, row, column in ((0, 0, 0, 0), (1, 2, 3, 2), (0, 1, 2, 1)):
        down, right = divmod(int(place[b, row, column]), 2)
        assert found[b, c, row, column] == images[b, c, 2 * row + down, 2 * column + right]


def test_neighbor2neighbor_of_the_identity_is_the_difference_of_neighbours():
    noisy = torch.rand(3, 2, 9, 7)  # the odd row and column are left out
    first, second = neighbours(keys(3), 4, 3)
    even = noisy[..., :8, :6]
    expected = (sampled(even, first) - sampled(even, second)).square().mean((1, 2, 3))
    # The net sees all of the gap, so that the second term is 0 whatever its weight.
    for gamma in (0.0, 5.0):
        found = Neighbor2Neighbor(gamma)(lambda images: images, noisy, torch.zeros(3), keys(3))
        torch.testing.assert_close(found, expected)
    # A net that sees nothing of it pays it again.
    dull = Neighbor2Neighbor(5.0)(lambda images: images * 0, noisy, torch.zeros(3), keys(3))
    torch.testing.assert_close(dull, 6 * sampled(even, second).square().mean((1, 2, 3)))


# Noise2Void ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cell", "radius"), [(8, 2), (4, 1), (6, 5), (3, 2)])
@pytest.mark.parametrize("size", [(10, 11), (23, 17)])
def test_each_pixel_is_replaced_as_often_by_another_that_is_kept(cell, radius, size):
    height, width = size
    replaced, source = Noise2Void(cell, radius).draw(keys(4000), height, width)
    inside = replaced < height * width
    rows, columns = replaced // width - source // width, replaced % width - source % width
    distance = torch.maximum(rows.abs(), columns.abs())[inside]
    assert distance.min() >= 1
    assert distance.max() <= radius
    assert source[inside].max() < height * width
    mask = torch.zeros(4000, height * width + 1).scatter(1, replaced, 1.0)
    assert (mask.gather(1, source)[inside] == 0).all()  # what stands in for a pixel was not itself replaced
    share = mask[:, :-1].mean(0)
    chance = 1 / cell**2
    assert share.sub(chance).abs().max() < 5 * math.sqrt(chance / 4000)


def test_a_replaced_pixel_never_sees_itself():
    """The prediction of each replaced pixel has no derivative by its own value, through whatever net."""
    loss = Noise2Void(cell=4, radius=2)
    noisy = torch.rand(1, 1, 12, 12)
    replaced = loss.draw(keys(1), 12, 12)[0][0]
    replaced = replaced[replaced < 144].tolist()
    assert len(replaced) >= 4
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 9, padding=4), torch.nn.Tanh(), torch.nn.Conv2d(8, 1, 9, padding=4)
    )
    given = []

    def net(images):
        given.append(images)
        return layers(images)

    def predicted(values):
        loss(net, values, torch.zeros(1), keys(1))
        return layers(given[-1]).flatten()

    jacobian = torch.autograd.functional.jacobian(predicted, noisy).flatten(1)
    own = torch.stack([jacobian[pixel, pixel] for pixel in replaced])
    assert (own == 0).all()
    others = [pixel for pixel in range(144) if pixel not in replaced]
    assert all(jacobian[pixel, pixel] != 0 for pixel in others)  # which do see themselves
    assert (given[-1] != noisy).sum() == len(replaced)


def test_noise2void_is_on_average_the_squared_error_of_all_pixels():
    noisy = torch.rand(1, 1, 16, 16).expand(4000, -1, -1, -1)
    found = Noise2Void(cell=4, radius=1)(lambda images: images * 0, noisy, torch.zeros(4000), keys(4000))
    error = 4 * found.std().item() / math.sqrt(4000)
    assert found.mean().item() == pytest.approx(noisy[0].square().mean().item(), abs=error)


def test_images_below_the_radius_are_refused():
    with pytest.raises(InputError, match=r"^model\.radius: 3 is too far for images of 5x9 pixels; give half a side$"):
        Noise2Void(8, 3)(F.relu, torch.rand(1, 1, 9, 5), torch.zeros(1), keys(1))


@pytest.mark.parametrize("loss", [Neighbor2Neighbor(), Noise2Void(), SureLoss()], ids=lambda loss: type(loss).__name__)
def test_no_loss_depends_on_the_batch(loss):
    net = torch.nn.Conv2d(3, 3, 5, padding=2)
    noisy, sigma = torch.rand(4, 3, 16, 18), torch.tensor([0.0, 0.1, 0.2, 0.3])
    whole = loss(net, noisy, sigma, keys(4))
    parts = [loss(net, noisy[i : i + 1], sigma[i : i + 1], keys(4)[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(whole, torch.cat(parts), rtol=1e-4, atol=1e-5)
