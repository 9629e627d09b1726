"""Muon: an optimiser that takes the weights of convolutions and dense layers as the matrices that they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration: steepest at 0, so that it takes few rounds
_ROUNDS = 5
_RMS = 0.2  # of AdamW's updates, usually


class Muon(Optimizer):
    """Momentum whose singular values are made nearly equal, for weights of two or more axes; AdamW for the others.

    Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024. The weight of a convolution is the
    matrix of its output channels by all else. Updates are scaled to the root mean square of AdamW's (Liu et al., "Muon
    is scalable for LLM training", 2025), so that rates and decays that are right for that are right here.

    Args:
        params: the parameters.
        lr: learning rate.
        momentum: decay of the average of the gradients of matrices, in [0,1), as Nesterov takes it.
        betas: AdamW's decays, for biases and norms.
        weight_decay: decoupled from the gradient.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step by the gradients that are there, after those of `closure` if it is given; return its loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    shape = (len(weight), weight[0].numel()) if weight.ndim > 1 else ()
                    alike[shape].append(weight)
            for vector in alike.pop((), []):
                vector.sub_(group["lr"] * self._adam(vector, *group["betas"]))
            for shape, weights in alike.items():
                updates = orthogonal(torch.stack([self._momentum(weight, group["momentum"]) for weight in weights]))
                for weight, update in zip(weights, updates, strict=True):
                    weight.sub_(update.view_as(weight), alpha=group["lr"] * _RMS * max(shape) ** 0.5)
        return loss

    def _momentum(self, weight: Tensor, decay: float) -> Tensor:
        """Return the average of a weight's gradients, with a look ahead, as a matrix."""
        mean = self.state[weight].setdefault("mean", torch.zeros_like(weight))
        mean.lerp_(weight.grad, 1 - decay)
        return weight.grad.lerp(mean, decay).flatten(1).float()  # type: ignore[union-attr]

    def _adam(self, weight: Tensor, slow: float, slower: float) -> Tensor:
        """Return Adam's update of a weight."""
        state = self.state[weight]
        if not state:
            state |= {"mean": torch.zeros_like(weight), "square": torch.zeros_like(weight), "step": torch.zeros(())}
        state["step"] += 1
        state["mean"].lerp_(weight.grad, 1 - slow)
        state["square"].lerp_(weight.grad.square(), 1 - slower)  # type: ignore[union-attr]
        count = float(state["step"])
        root = (state["square"] / (1 - slower**count)).sqrt() + 1e-8
        update: Tensor = state["mean"] / (1 - slow**count) / root
        return update


def orthogonal(matrices: Tensor) -> Tensor:
    """Return matrices (N,R,C) with the same singular vectors and singular values between about 0.7 and 1.2.

    Those that are far below the largest come out smaller. By Newton and Schulz's iteration with products alone: each
    round is a polynomial of the smaller square of the matrix, so that the matrix itself is multiplied once, at the end.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    square, factor = x @ x.mT, torch.eye(x.shape[1], device=x.device)
    first, third, fifth = _COEFFICIENTS
    for _ in range(_ROUNDS):
        polynomial = torch.baddbmm(square, square, square, beta=third, alpha=fifth)
        polynomial.diagonal(dim1=1, dim2=2).add_(first)
        square, factor = polynomial @ square @ polynomial, polynomial @ factor
    made: Tensor = factor @ x
    return made.mT if tall else made
