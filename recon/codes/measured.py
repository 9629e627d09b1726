"""How good codes are for other tasks: retrieval, recognition and clusters, each with an interval over the images."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recon import keyed
from recon.codes.retrieval import average_precision, nearest, precision, voted
from recon.errors import InputError

Numbers = NDArray[Any]
_DRAWS, _FEW_DRAWS = 1000, 100  # of a bootstrap: of means, and of measures that take longer
_RANKED = 1000  # queries whose whole ranking is made
_PROBED = 10_000  # training images of the linear probe
_STARTS = 4  # of k-means, the best of which counts

MEASURES = {
    "precision": "share of the k nearest training images that have the label of a test image",
    "map": "mean average precision of all training images ranked by distance, for at most 1,000 test images",
    "knn_accuracy": "share of test images whose label most of the k nearest training images have",
    "probe_accuracy": "share of test images that a logistic regression on the standardised numbers, of at most 10,000 "
    "training images, recognises",
    "cluster_nmi": "normalised mutual information of labels and as many k-means clusters of the test images",
    "cluster_ari": "adjusted Rand index of the same",
    "cluster_accuracy": "share of test images in the cluster that is best matched with their class, one to one",
}


class Labelled(NamedTuple):
    """Images as vectors, with their labels.

    Attributes:
        vectors: (N,D) float32.
        label: (N,) int64.
    """

    vectors: Tensor
    label: Tensor


class Found(NamedTuple):
    """A measure with its 95 % interval, by bootstrap over the test images."""

    value: float
    low: float
    high: float


def require_classes(train: Tensor, test: Tensor, k: int) -> None:
    """Raise InputError where labels (N,), (M,) do not suffice to measure by."""
    if k > len(train):
        raise InputError(f"k: {k} neighbours are more than there are training images ({len(train):,}); give fewer")
    for name, label in (("training", train), ("test", test)):
        if len(known := label[label >= 0].unique()) < 2:
            what = "no label" if not len(known) else f"the label {int(known[0])} alone"
            raise InputError(f"task: its {name} images have {what}, and two classes are needed to tell codes apart; "
                             "choose a task with labels, or measure=false")  # fmt: skip


def measured(train: Labelled, test: Labelled, k: int) -> dict[str, Found]:
    """Measure vectors by `MEASURES`.

    Args:
        train: the images that are searched and learned from.
        test: the images that are looked for and recognised.
        k: neighbours.
    """
    classes = 1 + int(max(train.label.max(), test.label.max()))
    near = train.label[nearest(train.vectors, test.vectors, k)[1]]
    some = keyed.permutation(0, "ranked", 0, len(test.label))[:_RANKED]
    ranked = average_precision(train.vectors, train.label, test.vectors[some], test.label[some])
    found = {
        "precision": _mean(precision(near, test.label)),
        "map": _mean(ranked[~ranked.isnan()]),
        "knn_accuracy": _mean((voted(near, classes) == test.label).double()),
        "probe_accuracy": _mean((_probed(train, test.vectors) == test.label).double()),
    }
    return found | _clusters(test)


def _mean(values: Tensor) -> Found:
    """Return the mean of values (M,) with its interval."""
    each = values.double().numpy()
    draw = np.random.default_rng(0)
    means = [each[draw.integers(0, len(each), len(each))].mean() for _ in range(_DRAWS)]
    return _found(each.mean(), means)


def _found(value: float, drawn: list[float] | Numbers) -> Found:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Found(float(value), float(low), float(high))


def _probed(train: Labelled, vectors: Tensor) -> Tensor:
    """Return the labels (M,) that a logistic regression sees in vectors (M,D)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    some = keyed.permutation(0, "probed", 0, len(train.label))[:_PROBED]
    if len(train.label[some].unique()) < 2:
        some = torch.arange(len(train.label))
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    with warnings.catch_warnings():
        # Where the classes can be separated, the weights grow without end and the labels stay what they are.
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe.fit(train.vectors[some].numpy(), train.label[some].numpy())
    return torch.from_numpy(probe.predict(vectors.numpy()))


def _clusters(test: Labelled) -> dict[str, Found]:
    """Measure clusters of the test images."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    label = test.label.numpy()
    classes = min(len(np.unique(label)), len(label))
    cluster = KMeans(classes, n_init=_STARTS, random_state=0).fit_predict(test.vectors.numpy())
    scores: dict[str, Callable[[Numbers, Numbers], float]] = {
        "cluster_nmi": normalized_mutual_info_score, "cluster_ari": adjusted_rand_score,
        "cluster_accuracy": matched_accuracy,
    }  # fmt: skip
    draw = np.random.default_rng(0)
    drawn = [draw.integers(0, len(label), len(label)) for _ in range(_FEW_DRAWS)]
    return {
        name: _found(score(label, cluster), [score(label[some], cluster[some]) for some in drawn])
        for name, score in scores.items()
    }


def matched_accuracy(label: Numbers, cluster: Numbers) -> float:
    """Return the share of images in the cluster that is matched with their class, one to one (Kuhn 1955).

    >>> matched_accuracy(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 1]))
    0.75
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics.cluster import contingency_matrix

    table = contingency_matrix(label, cluster)
    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(table[rows, columns].sum() / len(label))
