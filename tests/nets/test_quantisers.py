"""Quantisers: what they round to, how gradients pass, and that a codebook follows the codes and loses no vector."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from recon.errors import InputError
from recon.nets.quantisers import FSQ, VQ, Scalar


@given(levels=st.integers(2, 9), channels=st.integers(1, 4), side=st.integers(1, 3), seed=st.integers(0, 99))
def test_fsq_symbols_name_the_nearest_level(levels: int, channels: int, side: int, seed: int) -> None:
    code = 2 * torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(seed))
    quantiser = FSQ(levels)
    found = quantiser(code)
    grid = torch.linspace(-1, 1, levels)
    nearest = (code.tanh()[..., None] - grid).abs().argmin(-1)
    torch.testing.assert_close(found.code, grid[nearest], atol=1e-6, rtol=0)
    assert torch.equal(quantiser.codes(found.symbols), quantiser.codes(nearest))
    assert found.symbols.amin() >= 0
    assert found.symbols.amax() < levels
    assert torch.equal(quantiser(-code).symbols, levels - 1 - found.symbols)


def test_fsq_passes_the_gradient_of_the_bounded_code() -> None:
    code = torch.tensor([[0.3, -0.7]], requires_grad=True)
    FSQ(levels=3)(code).code.sum().backward()
    torch.testing.assert_close(code.grad, 1 - code.detach().tanh().square())


@pytest.mark.parametrize("shape", [(300, 3), (40, 3, 4, 5)])
def test_a_prepared_fsq_uses_all_its_levels_wherever_the_codes_lie(shape: tuple[int, ...]) -> None:
    draw = torch.Generator().manual_seed(0)
    code = 0.01 * torch.randn(shape, generator=draw, dtype=torch.float64)
    quantiser = FSQ(levels=5)
    quantiser.prepare(3)
    quantiser = quantiser.double().train()
    far = 30 + 100 * code
    found, moved = quantiser(code.requires_grad_()), quantiser(far)
    assert all(len(found.symbols[:, channel].unique()) == 5 for channel in range(3))
    assert float((found.symbols == moved.symbols).double().mean()) > 0.99
    # What all codes have in common has no gradient.
    weights = torch.randn(shape, generator=draw, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((weights * found.code).sum(), code)
    assert (
        float(gradient.sum(0).flatten(1).sum(-1).abs().max() if len(shape) > 2 else gradient.sum(0).abs().max()) < 1e-6
    )
    for _ in range(200):
        quantiser(far)
    evaluated = quantiser.eval()
    one = evaluated(far[:1])
    assert torch.equal(one.symbols, evaluated(far).symbols[:1])
    assert float((evaluated(far).symbols == moved.symbols).double().mean()) > 0.99


def test_fsq_takes_levels_for_each_channel() -> None:
    quantiser = FSQ([2, 5])
    assert quantiser.alphabet(2) == (2, 5)
    assert quantiser(torch.full((1, 2, 1, 1), 9.0)).symbols.flatten().tolist() == [1, 4]
    with pytest.raises(InputError, match=r"levels: there are 2 for a code of 3 channels; give one for each"):
        quantiser.alphabet(3)


@pytest.mark.parametrize("wrong", [1, 0, [8, 1], 10**6])
def test_fsq_refuses_levels_out_of_range(wrong: int | list[int]) -> None:
    with pytest.raises(InputError, match=r"levels: .* is out of range"):
        FSQ(wrong)


def test_scalar_symbols_are_whole_numbers_and_training_adds_their_noise() -> None:
    code = torch.linspace(-4, 4, 40_000).view(10_000, 2, 2)
    quantiser = Scalar(levels=7)
    evaluated = quantiser.eval()(code)
    assert torch.equal(evaluated.symbols, (code.round() + 3).clamp(0, 6).long())
    assert torch.equal(quantiser.codes(evaluated.symbols), evaluated.code)
    noise = quantiser.train()(code.requires_grad_()).code - code.clamp(-3, 3)
    assert float(noise.abs().max()) <= 0.5 + 1e-6
    assert (float(noise.mean()), float(noise.var())) == pytest.approx((0, 1 / 12), abs=0.005)
    noise.sum().backward()
    with pytest.raises(InputError, match="levels: 8 is even"):
        Scalar(levels=8)


def test_a_step_is_what_scalar_codes_are_rounded_to() -> None:
    code = torch.linspace(-1, 1, 40_000).view(10_000, 2, 2)
    unit, tenths = Scalar(levels=7).eval(), Scalar(levels=7, step=0.1).eval()
    coarse, fine = unit(code / 0.1), tenths(code)
    assert torch.equal(fine.symbols, coarse.symbols)
    assert torch.equal(fine.code, coarse.code * 0.1)
    assert fine.bits is not None
    assert coarse.bits is not None
    torch.testing.assert_close(fine.bits, coarse.bits)
    torch.testing.assert_close(tenths.codes(fine.symbols), fine.code)
    noise = tenths.train()(code).code - code.clamp(-0.3, 0.3)
    assert 0.049 < float(noise.abs().max()) <= 0.05 + 1e-6
    with pytest.raises(InputError, match="step"):
        Scalar(levels=7, step=0)


def test_the_bits_of_a_scalar_code_are_its_entropy() -> None:
    """Of Gaussian numbers that of the whole ones they are rounded to; of any others it is no less than that."""
    deviations, draw = np.array([1.0, 2.0, 5.0]), torch.Generator().manual_seed(0)
    code = torch.randn(20_000, 3, 1, 2, generator=draw) * torch.tensor(deviations).float().view(3, 1, 1)
    edges = np.arange(-40.5, 41)
    shares = np.diff(norm.cdf(edges[:, None] / deviations), axis=0)
    entropy = -(shares * np.log2(np.maximum(shares, 1e-300))).sum()
    found = Scalar(levels=63)(code)
    assert found.bits.tolist()[:2] == pytest.approx([2 * entropy] * 2, rel=0.01)
    uniform = torch.randint(-4, 5, (20_000, 1), generator=draw).float()
    assert np.log2(9) < float(Scalar(levels=63)(uniform).bits[0]) < np.log2(9) + 0.26


def test_vq_takes_the_nearest_vector_and_its_symbols_give_it_back() -> None:
    torch.manual_seed(0)
    quantiser = VQ(size=7, dim=2).eval()
    code = torch.randn(3, 6, 4, 5)
    found = quantiser(code)
    assert found.symbols.shape == (3, 3, 4, 5)
    vectors = code.view(3, 3, 2, 4, 5).permute(0, 1, 3, 4, 2)
    nearest = torch.cdist(vectors.reshape(-1, 2), quantiser.codebook).argmin(1).view(3, 3, 4, 5)
    assert torch.equal(found.symbols, nearest)
    torch.testing.assert_close(quantiser.codes(nearest), found.code)
    chosen = quantiser.codebook[nearest]
    torch.testing.assert_close(found.commitment, 0.25 * (vectors - chosen).square().flatten(1).mean(1))


def test_a_codebook_finds_the_clusters_of_the_codes() -> None:
    """Of eight well separated clusters each ends with at least one vector at its centre."""
    torch.manual_seed(0)
    angle = torch.arange(8) * torch.pi / 4
    centres = 5 * torch.stack([angle.cos(), angle.sin()], 1)
    quantiser = VQ(size=16, dim=2, decay=0.9, restart=0.1).train()
    for _ in range(300):
        quantiser(centres[torch.randint(8, (256,))] + 0.1 * torch.randn(256, 2))
    distance = torch.cdist(centres, quantiser.codebook).amin(1)
    assert float(distance.max()) < 0.15


def test_an_unused_vector_begins_again_only_where_asked() -> None:
    for restart, is_used in ((0.0, False), (0.1, True)):
        torch.manual_seed(0)
        quantiser = VQ(size=4, dim=1, decay=0.5, restart=restart).train()
        quantiser(torch.randn(64, 1))
        quantiser.codebook[0] = quantiser.sums[0] = 1e3
        quantiser.uses[0] = 1.0
        for _ in range(20):
            quantiser(torch.randn(64, 1))
        assert bool((quantiser.codebook[0].abs() < 10).all()) == is_used


def test_evaluation_changes_no_vector() -> None:
    quantiser = VQ(size=4, dim=2).eval()
    before = {name: value.clone() for name, value in quantiser.state_dict().items()}
    quantiser(torch.randn(8, 4))
    assert all(torch.equal(before[name], value) for name, value in quantiser.state_dict().items())


def test_vectors_that_do_not_divide_the_code_are_refused() -> None:
    with pytest.raises(InputError, match="dim: vectors of 4 numbers do not divide a code of 6 channels"):
        VQ(size=4, dim=4).alphabet(6)
