"""What a net learns from another one: Hinton, Vinyals & Dean, "Distilling the knowledge in a neural network", 2015."""

import torch.nn.functional as F
from torch import Tensor

from recon.losses.pixel import wide


def soft_targets(scores: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """Return the divergence (B,) of softened scores (B,K) from those of a teacher, times the square of the temperature.

    By that factor its gradients stay comparable with those of the labels, whatever the temperature.

    >>> import torch
    >>> soft_targets(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 1.0]]), 4.0).tolist()
    [0.0]
    """
    said, target = ((wide(each) / temperature).log_softmax(1) for each in (scores, taught))
    return F.kl_div(said, target, reduction="none", log_target=True).sum(1) * temperature**2
