"""Integer frequency tables of symbols: what an entropy coder is given, the same bits on every machine."""

import torch
from torch import Tensor

# Of each table. A power of two, so that frequencies divided by it are exact floating-point numbers.
TOTAL = 1 << 20


def frequencies(counts: Tensor) -> Tensor:
    """Turn counts of symbols into integer frequencies that sum to `TOTAL`, at least 1 each.

    An unseen symbol counts as half a seen one (Krichevsky & Trofimov 1981).

    >>> frequencies(torch.tensor([[6, 2, 0]])).tolist()
    [[714938, 274976, 58662]]

    Args:
        counts: (G,A) int64, at least 0; -1 where a table has fewer than A symbols.

    Returns:
        (G,A) int64, 0 where there is no symbol.
    """
    exists = counts >= 0
    doubled = (2 * counts + 1).where(exists, torch.zeros_like(counts))
    rest = TOTAL - exists.sum(1, keepdim=True)
    found = doubled * rest // doubled.sum(1, keepdim=True) + exists
    # What rounding down has left goes to the most frequent symbol, the first of several.
    found.scatter_add_(1, found.argmax(1, keepdim=True), TOTAL - found.sum(1, keepdim=True))
    return found


def bits(table: Tensor, symbols: Tensor) -> Tensor:
    """Return the bits (B,) float64 that symbols (B,G,...) take by frequencies (G,A): their cross-entropy.

    >>> bits(torch.tensor([[TOTAL // 2, TOTAL // 4, TOTAL // 4]]), torch.tensor([[0], [2]])).tolist()
    [1.0, 2.0]
    """
    lengths = (TOTAL / table.clamp_min(1).double()).log2()
    channels = torch.arange(symbols.shape[1], device=symbols.device).view(-1, *[1] * (symbols.ndim - 2))
    return lengths[channels.expand(symbols.shape[1:]), symbols].flatten(1).sum(1)
