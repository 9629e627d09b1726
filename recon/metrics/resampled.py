"""How sure the measures of a classifier are: 95 % intervals by drawing its test images again (Efron 1979)."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from recon import keyed
from recon.metrics import classes

_DRAWS = 1000
_CELLS = 1 << 22  # how often each image is drawn, of so many at a time


def intervals(
    probability: Tensor, prediction: Tensor, label: Tensor, means: Mapping[str, Tensor]
) -> dict[str, tuple[float, float]]:
    """Return the ends of the 95 % interval of each measure over the images, without those of no spread.

    They are percentiles of what images drawn again by key come to, moved so that their mean is the value itself: images
    that are drawn twice make a calibration error larger, by as much as it is too large for few images.

    Args:
        probability: (N,K) in [0,1].
        prediction: (N,) int64 in 0..K-1.
        label: (N,) int64 in 0..K-1.
        means: (N,) each, measures that are means over the images, by name.
    """
    if len(label) < 2:
        return {}
    probability = probability.double()
    if len(label.unique()) > 1:
        means = {**means, "auroc": classes.auroc_of_each(probability, label)}
    given = probability, prediction, label, {name: values.double() for name, values in means.items()}
    value = measured(torch.ones(len(label), 1, dtype=torch.float64), *given)
    blocks = [measured(times, *given) for times in _drawn(len(label))]
    found, level = {}, torch.tensor([0.025, 0.975], dtype=torch.float64)
    for name in value:
        drawn = torch.cat([block[name] for block in blocks])
        low, high = (value[name] - drawn.mean() + drawn.quantile(level)).tolist()
        if low < high:
            found[name] = (low, high)
    return found


def measured(
    times: Tensor, probability: Tensor, prediction: Tensor, label: Tensor, means: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Measure R sets of images, of which each image is `times` (N,R) float64 times in each: (R,) each.

    Returns:
        The `means`, those of `classes.scores`, "ece", "rmsce" and "mce".
    """
    right, confidence = (prediction == label).double(), probability.amax(1)

    def sums(group: Tensor, size: int, of: Tensor | None = None) -> Tensor:
        each = times if of is None else times * of.unsqueeze(1)
        return times.new_zeros(size, times.shape[1]).index_add_(0, group, each)

    size = probability.shape[1]
    found = {name: values @ times / len(label) for name, values in means.items()}
    found |= classes.scores(sums(label, size, right), sums(label, size), sums(prediction, size))
    bins, most = classes.bins(confidence), classes.BINS + 1
    count, gap = sums(bins, most), sums(bins, most, right - confidence).abs()
    apart = (gap / count).nan_to_num(0)
    found |= {"ece": gap.sum(0) / len(label), "rmsce": ((apart * gap).sum(0) / len(label)).sqrt(), "mce": apart.amax(0)}
    return found


def _drawn(count: int) -> Iterator[Tensor]:
    """Draw as many images again and again: how often each was drawn, (count, draws of a block) float64."""
    for keys in keyed.keys(keyed.EVALUATION_SEED, "again", 0, torch.arange(_DRAWS)).split(max(1, _CELLS // count)):
        places = keyed.integers(keys, count, (count,)) + count * torch.arange(len(keys)).unsqueeze(1)
        yield torch.bincount(places.flatten(), minlength=count * len(keys)).view(-1, count).T.double().contiguous()
