"""Muon against the singular value decomposition, torch's form for dense layers, and AdamW."""

import pytest
import torch
from torch import nn

from recon.training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(64, 576), (576, 64), (32, 32)])
def test_singular_values_become_nearly_equal_and_vectors_stay(shape: tuple[int, int]) -> None:
    matrix = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    found = orthogonal(matrix)[0]
    left, values, right = torch.linalg.svd(matrix[0], full_matrices=False)
    well = values > 0.05 * values[0]
    inside = left.T @ found @ right.T
    assert (inside.diagonal()[well] > 0.6).all()
    assert (inside.diagonal() < 1.3).all()
    assert float((inside - torch.diag(inside.diagonal())).abs().max()) < 1e-3


def test_dense_weights_take_the_steps_of_torchs_muon() -> None:
    """Within bfloat16, in which torch computes."""
    weights = [nn.Parameter(torch.randn(48, 96, generator=torch.Generator().manual_seed(1))) for _ in range(2)]
    ours = Muon(weights[:1], lr=1e-2, weight_decay=0.1)
    theirs = torch.optim.Muon(weights[1:], lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    start = weights[0].detach().clone()
    for step in range(3):
        for weight, optimizer in zip(weights, (ours, theirs), strict=True):
            weight.grad = torch.randn(48, 96, generator=torch.Generator().manual_seed(10 + step))
            optimizer.step()
    moved = [(weight - start).detach() for weight in weights]
    assert float((moved[0] - moved[1]).norm() / moved[1].norm()) < 0.02


def test_a_convolution_is_the_matrix_of_its_output_channels() -> None:
    generator = torch.Generator().manual_seed(2)
    start, gradient = torch.randn(8, 4, 3, 3, generator=generator), torch.randn(8, 4, 3, 3, generator=generator)
    kernel, matrix = nn.Parameter(start.clone()), nn.Parameter(start.flatten(1).clone())
    other = nn.Parameter(start[:, :, :1, :2].clone())  # of another shape, so that it is computed apart
    kernel.grad, matrix.grad, other.grad = gradient, gradient.flatten(1), gradient[:, :, :1, :2]
    Muon([kernel, other]).step()
    Muon([matrix]).step()
    torch.testing.assert_close(kernel.flatten(1), matrix)


def test_biases_and_norms_take_the_steps_of_adamw() -> None:
    vectors = [nn.Parameter(torch.ones(5)) for _ in range(2)]
    ours = Muon(vectors[:1], lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1)
    theirs = torch.optim.AdamW(vectors[1:], lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1)
    for step in range(5):
        for vector, optimizer in zip(vectors, (ours, theirs), strict=True):
            vector.grad = torch.randn(5, generator=torch.Generator().manual_seed(step))
            optimizer.step()
    torch.testing.assert_close(*vectors)


def test_it_resumes_from_its_state() -> None:
    def trained(stop: int | None) -> nn.Module:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
        optimizer = Muon(net.parameters())
        for step in range(6):
            if step == stop:
                state = optimizer.state_dict()
                optimizer = Muon(net.parameters())
                optimizer.load_state_dict(state)
            optimizer.zero_grad()
            net(torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(step))).square().mean().backward()
            optimizer.step()
        return net

    for one, two in zip(trained(None).parameters(), trained(3).parameters(), strict=True):
        assert torch.equal(one, two)
