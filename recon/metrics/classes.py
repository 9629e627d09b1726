"""Measures of predicted classes."""

from typing import Literal

import torch
from numpy.typing import ArrayLike
from torch import Tensor

_BINS = 15  # of confidence, for calibration


def predicted(logits: Tensor) -> Tensor:
    """Return the class of the highest score: logits (B,K) to (B,) int64; -1 where a score is NaN or infinite.

    >>> predicted(torch.tensor([[0.1, 2.0], [float("nan"), 1.0]]))
    tensor([ 1, -1])
    """
    return logits.argmax(1).where(logits.isfinite().all(1), -1)


def confusion(prediction: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """Count how often each class is predicted for each true class.

    >>> confusion(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 2).tolist()
    [[1, 1], [0, 1]]

    Args:
        prediction: (N,) int64 in 0..num_classes-1, or -1 for images without a prediction, which do not count.
        label: (N,) int64 in 0..num_classes-1, or -1 for images without a label, which do not count.
        num_classes: K.

    Returns:
        (K,K) int64; a row is a true class, a column a predicted one.
    """
    counted = (label >= 0) & (prediction >= 0)
    pairs = label[counted] * num_classes + prediction[counted]
    return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)


def classification(prediction: Tensor, label: Tensor, num_classes: int) -> dict[str, float]:
    """Accuracy and macro precision, recall and F1, as scikit-learn defines them with `zero_division=0`.

    Macro means are taken over the classes that occur in the labels or the predictions.

    >>> classification(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 2)["recall"]
    0.75

    Args:
        prediction: (N,) int64 in 0..num_classes-1, or -1 where there is none, which counts as wrong.
        label: (N,) int64 in 0..num_classes-1, or -1 for images without a label, which do not count.
        num_classes: K.

    Returns:
        "accuracy", "precision", "recall" and "f1" in [0,1]; all NaN when no image has a label.
    """
    counts = confusion(prediction.cpu(), label.cpu(), num_classes).double()
    labelled = torch.bincount(label[label >= 0].cpu(), minlength=num_classes).double()
    right, predicted = counts.diagonal(), counts.sum(0)
    occurs = labelled + predicted > 0

    def macro(ratio: Tensor) -> float:
        return ratio.nan_to_num(0)[occurs].mean().item()

    return {
        "accuracy": (right.sum() / labelled.sum()).item(),
        "precision": macro(right / predicted),
        "recall": macro(right / labelled),
        "f1": macro(2 * right / (labelled + predicted)),
    }


def calibration_error(confidence: ArrayLike, right: ArrayLike, norm: Literal["l1", "l2", "max"] = "l1") -> float:
    """Return how far confidence is from accuracy, over 15 bins of equal width (Guo et al., ICML 2017).

    >>> round(calibration_error([0.95, 0.95], [1, 0]), 2)
    0.45

    Args:
        confidence: (N,) probability of the predicted class.
        right: (N,) whether it is the true one.
        norm: "l1" the mean over the images (ECE), "l2" its root mean square, "max" the worst bin (MCE).
    """
    from torchmetrics.functional.classification import binary_calibration_error

    values = torch.as_tensor(confidence, dtype=torch.float64).cpu()
    if not len(values):
        return float("nan")
    target = torch.as_tensor(right).cpu().long()
    return float(binary_calibration_error(values, target, n_bins=_BINS, norm=norm, validate_args=False))
