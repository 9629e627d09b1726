"""The nearest images by their codes, by brute force: a product of matrices, a second for 60,000 codes of 32 numbers."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_CELLS = 1 << 25  # distances at once, 128 MB


def nearest(gallery: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k nearest of N codes for each of M codes, by the Euclidean distance.

    >>> nearest(torch.tensor([[0.0], [3.0], [1.0]]), torch.tensor([[2.5]]), 2)[1].tolist()
    [[1, 2]]

    Args:
        gallery: (N,D), N at least k.
        queries: (M,D).
        k: at least 1.

    Returns:
        The distances (M,k), ascending, and the places in the gallery (M,k) int64.
    """
    found = [distances.topk(k, largest=False) for _, distances in _distances(gallery, queries)]
    squares, places = (torch.cat([each[part] for each in found]) for part in (0, 1))
    return squares.clamp_min(0).sqrt(), places


def precision(labels: Tensor, wanted: Tensor) -> Tensor:
    """Return the share (M,) of neighbours with labels (M,k) that have the label of their query, (M,).

    >>> precision(torch.tensor([[1, 2, 1, 1]]), torch.tensor([1])).tolist()
    [0.75]
    """
    return (labels == wanted[:, None]).double().mean(1)


def voted(labels: Tensor, classes: int) -> Tensor:
    """Return the most frequent (M,) of the labels (M,k) of neighbours, the smallest of several.

    >>> voted(torch.tensor([[2, 1, 1, 2, 0]]), 3).tolist()
    [1]
    """
    votes = torch.zeros(len(labels), classes, dtype=torch.int64)
    return votes.scatter_add_(1, labels, torch.ones_like(labels)).argmax(1)


def average_precision(gallery: Tensor, labels: Tensor, queries: Tensor, wanted: Tensor) -> Tensor:
    """Return the average precision (M,) of the whole gallery ranked for each query; NaN where no image has its label.

    >>> codes = torch.tensor([[1.0], [2.0], [3.0]])
    >>> average_precision(codes, torch.tensor([1, 0, 1]), torch.zeros(1, 1), torch.tensor([1])).tolist()
    [0.8333333333333333]

    Args:
        gallery: (N,D), with labels (N,).
        labels: see `gallery`.
        queries: (M,D), which look for the labels `wanted` (M,).
        wanted: see `queries`.
    """
    found = []
    for rows, distances in _distances(gallery, queries):
        order = distances.argsort(dim=1, stable=True)
        hits = (labels[order] == wanted[rows, None]).double()
        ranks = torch.arange(1, hits.shape[1] + 1, dtype=torch.float64)
        found.append((hits.cumsum(1) / ranks * hits).sum(1) / hits.sum(1))
    return torch.cat(found)


def _distances(gallery: Tensor, queries: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield squared distances (m,N) of some queries at a time, and which queries they are of."""
    # From the middle of the gallery, as the digits of large equal parts would be lost.
    middle = gallery.mean(0)
    gallery, queries = gallery - middle, queries - middle
    squares, count = gallery.square().sum(1), max(1, _CELLS // len(gallery))
    for start in range(0, len(queries), count):
        rows = slice(start, start + count)
        part = queries[rows]
        yield rows, squares + part.square().sum(1, keepdim=True) - 2 * part @ gallery.T
