"""Measures of predicted classes."""

import math
import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

BINS = 15  # of confidence, for calibration


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

    Macro means are taken over the classes that occur in the labels or the predictions; balanced accuracy is the mean
    recall of those that occur in the labels alone. The weighted F1 is weighted by how often each does.

    >>> classification(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 2)["recall"]
    0.75

    Args:
        prediction: (N,) int64 in 0..num_classes-1, or -1 where there is none, which counts as wrong.
        label: (N,) int64 in 0..num_classes-1, or -1 for images without a label, which do not count.
        num_classes: K.

    Returns:
        "accuracy" and those of `scores`, in [0,1]; all NaN when no image has a label.
    """
    counts = confusion(prediction.cpu(), label.cpu(), num_classes).double()
    labelled = torch.bincount(label[label >= 0].cpu(), minlength=num_classes).double()
    found = scores(counts.diagonal(), labelled, counts.sum(0))
    return {name: value.item() for name, value in ({"accuracy": counts.trace() / labelled.sum()} | found).items()}


def scores(right: Tensor, labelled: Tensor, predicted: Tensor) -> dict[str, Tensor]:
    """Make means over the classes of how often each is right, labelled and predicted: (K,...) float64 each.

    >>> scores(torch.tensor([1.0, 1.0]), torch.tensor([2.0, 1.0]), torch.tensor([1.0, 2.0]))["recall"]
    tensor(0.7500)

    Returns:
        "balanced_accuracy", "precision", "recall", "f1" and "f1_weighted", (...) each, see `classification`.
    """

    def mean(ratio: Tensor, weight: Tensor) -> Tensor:
        return (ratio.nan_to_num(0) * weight).sum(0) / weight.sum(0)

    occurs, recall, f1 = labelled + predicted > 0, right / labelled, 2 * right / (labelled + predicted)
    return {
        "balanced_accuracy": mean(recall, labelled > 0),
        "precision": mean(right / predicted, occurs),
        "recall": mean(recall, occurs),
        "f1": mean(f1, occurs),
        "f1_weighted": mean(f1, labelled),
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
    return float(binary_calibration_error(values, target, n_bins=BINS, norm=norm, validate_args=False))


def bins(confidence: Tensor) -> Tensor:
    """Return in which bin each confidence (N,) is counted, 0 to 15: a confidence of 1 has one of its own.

    >>> bins(torch.tensor([0.0, 0.1, 1.0]))
    tensor([ 0,  1, 15])
    """
    return torch.bucketize(confidence, torch.linspace(0, 1, BINS + 1, device=confidence.device), right=True) - 1


def rank_of_label(logits: Tensor, label: Tensor) -> Tensor:
    """Return the place of the true class among the scores, 1 for the highest: (B,) int64; K+1 where there is no label.

    Of equal scores the true one counts as the last, so that a net that knows nothing gains nothing.

    >>> rank_of_label(torch.tensor([[0.1, 2.0, 0.5]]), torch.tensor([2]))
    tensor([2])
    """
    own = logits.gather(1, label.clamp_min(0).unsqueeze(1))
    rank = (logits >= own).sum(1)
    return rank.where((label >= 0) & logits.isfinite().all(1), logits.shape[1] + 1)


def brier(probability: Tensor, label: Tensor) -> Tensor:
    """Return the squared distance of the probabilities (B,K) from the true class, from 0 to 2 (Brier 1950): (B,).

    >>> brier(torch.tensor([[0.5, 0.5]]), torch.tensor([1]))
    tensor([0.5000])
    """
    truth = F.one_hot(label.clamp_min(0), probability.shape[1]).to(probability.dtype)
    return (probability - truth).square().sum(1)


def auroc(probability: Tensor, label: Tensor) -> float:
    """Return the area under the ROC curve of each class against the others, averaged over the classes that occur.

    >>> auroc(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 1]))
    1.0

    Args:
        probability: (N,K).
        label: (N,) int64, or -1 for images without a label, which do not count.

    Returns:
        In [0,1]; NaN where the labels are of one class alone.
    """
    from torchmetrics.functional.classification import multiclass_auroc

    known = (label >= 0) & probability.isfinite().all(1)
    probability, label = probability[known].cpu(), label[known].cpu().long()
    occurs = label.unique()
    if len(occurs) < 2:
        return float("nan")
    with warnings.catch_warnings():  # it warns of classes that do not occur, which are left out
        warnings.simplefilter("ignore")
        areas = multiclass_auroc(probability, label, probability.shape[1], average=None, validate_args=False)
    return float(areas[occurs].mean())


def auroc_of_each(probability: Tensor, label: Tensor) -> Tensor:
    """Return what each image adds to the AUROC, which is their mean, to the first order (DeLong et al. 1988): (N,).

    >>> auroc_of_each(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 1]))
    tensor([1., 1.])

    Args:
        probability: (N,K) float64.
        label: (N,) int64, of two classes at least.
    """
    found, occurs = probability.new_zeros(len(label)), label.unique().tolist()
    for one in occurs:
        mine, score = label == one, probability[:, one].contiguous()
        for part, sign in ((mine, 1), (~mine, -1)):
            others = (sign * score[~part]).sort().values
            # The share of images of the other kind that it outdoes; of equal ones half.
            below, up_to = (torch.searchsorted(others, sign * score[part], right=end) for end in (False, True))
            share = (below + up_to) / (2 * len(others))
            found[part] += share.mean() + (share - share.mean()) * (len(label) / len(share))
    return found / len(occurs)


def temperature(logits: Tensor, label: Tensor) -> float:
    """Return what to divide logits by so that the negative log-likelihood is least (Guo et al., ICML 2017).

    >>> round(temperature(torch.tensor([[2.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])), 3)
    1.82

    Args:
        logits: (N,K).
        label: (N,) int64.

    Returns:
        From 0.01 to 100.
    """
    from scipy.optimize import minimize_scalar

    values, truth = logits.double().cpu(), label.cpu()

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(values / math.exp(log_temperature), truth))

    # Convex in 1/T, so with one minimum in log T too.
    found = minimize_scalar(loss, bounds=(math.log(0.01), math.log(100)), method="bounded", options={"xatol": 1e-6})
    return math.exp(float(found.x))


def of_each(prediction: Tensor, label: Tensor, names: Sequence[str]) -> list[dict[str, float | str]]:
    """Return precision, recall and F1 of each class, how many images it has, and their means, as rows of a table.

    >>> of_each(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), ["cat", "dog"])[0]["recall"]
    0.5

    Args:
        prediction: (N,) int64.
        label: (N,) int64.
        names: of the K classes.
    """
    counts = confusion(prediction, label, len(names)).double()
    right, predicted, labelled = counts.diagonal(), counts.sum(0), counts.sum(1)
    ratios = (right / predicted, right / labelled, 2 * right / (labelled + predicted))
    columns = [*(ratio.nan_to_num(0).tolist() for ratio in ratios), labelled.long().tolist()]
    rows: list[dict[str, float | str]] = []
    for name, *values in zip(names, *columns, strict=True):
        rows.append(dict(zip(("class", "precision", "recall", "f1", "images"), (name, *values), strict=True)))
    for mean, weights in (("macro", None), ("weighted", columns[3])):
        values = [float(np.average(column, weights=weights)) if len(label) else math.nan for column in columns[:3]]
        named = dict(zip(("precision", "recall", "f1"), values, strict=True))
        rows.append({"class": f"{mean} mean", **named, "images": len(label)})
    return rows
