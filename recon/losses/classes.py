"""The loss of a classifier: cross-entropy with soft labels, and what helps where classes are uneven."""

from torch import Tensor
from torch.nn import functional as F

from recon.losses.pixel import wide


def cross_entropy(
    scores: Tensor, targets: Tensor, weights: Tensor | None = None, smoothing: float = 0.0, focus: float = 0.0
) -> Tensor:
    """Compare scores (B,K) with the shares of classes in each image (B,K), which sum to 1: (B,).

    >>> cross_entropy(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), focus=2)
    tensor([0.1733])

    Args:
        scores: logits.
        targets: one 1 for a plain label; the shares of a mixed image.
        weights: of the classes (K,), or None for equal ones.
        smoothing: the share of each target that is spread over all classes (Szegedy et al. 2016).
        focus: the exponent by which classes that are sure already count less; 0 counts all alike. Lin et al., "Focal
            loss for dense object detection", ICCV 2017.
    """
    scores = wide(scores)
    targets, weights = targets.to(scores.dtype), None if weights is None else weights.to(scores.dtype)
    if not focus:
        return F.cross_entropy(scores, targets, weights, reduction="none", label_smoothing=smoothing)
    targets = targets * (1 - smoothing) + smoothing / targets.shape[1]
    log_share = scores.log_softmax(1)
    # An exponent below 1 has no derivative at 0.
    missing = log_share.expm1().neg().clamp_min(1e-6)
    each = -targets * missing.pow(focus) * log_share
    return (each if weights is None else each * weights).sum(1)
