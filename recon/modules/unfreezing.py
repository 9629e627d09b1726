"""Gradual unfreezing: the last layers of a trained net train first, one more group of them each few epochs.

Howard & Ruder, "Universal language model fine-tuning for text classification", ACL 2018.
"""

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from recon.errors import InputError
from recon.ranges import require_whole

_CONTAINERS = (nn.Sequential, nn.ModuleList)
_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


class Unfreezing:
    """Hold the first groups of a net's layers as they are until their epoch has come.

    What is held keeps its weights and the statistics of its norms, and drops nothing out. How much is held follows from
    the epoch alone, so that a training that is resumed goes on as it was.

    Args:
        epochs: for so many each group trains before the one before it joins; 0 = off.
        net: whose groups these are, see `groups`.

    Raises:
        InputError: the number is out of its range, or the net has one group alone.
    """

    def __init__(self, epochs: int, net: nn.Module) -> None:
        require_whole("unfreeze", epochs, 0)
        self.epochs = epochs
        self.groups = groups(net) if epochs else []
        if epochs and len(self.groups) < 2:
            raise InputError(f"unfreeze: all weights of {type(net).__name__} are in one layer, which would train from "
                             "the start; leave it out")  # fmt: skip
        self._weights = _weights(self.groups, net)
        self._held: list[nn.Parameter] = []
        self._epoch = -1

    def __bool__(self) -> bool:
        return bool(self.epochs)

    @property
    def last(self) -> int:
        """The epoch from which on everything trains, the first being 0."""
        return self.epochs * (len(self.groups) - 1)

    def held(self, epoch: int) -> int:
        """Return how many groups, the first ones, are held in an epoch."""
        return max(0, len(self.groups) - 1 - epoch // self.epochs)

    def begin(self, epoch: int, shared: bool) -> None:
        """Hold what is held in an epoch, and let the rest train.

        Args:
            epoch: the first is 0.
            shared: whether several devices train the net, which must agree on what has a gradient: what is held then
                has one too, that `forget` throws away.
        """
        if epoch == self._epoch:
            return
        self._epoch, count = epoch, self.held(epoch)
        for number, layers in enumerate(self.groups):
            for layer in layers:
                layer.train(number >= count)
        self._held = [weight for weights in self._weights[:count] for weight in weights]
        for number, weights in enumerate(self._weights):
            for weight in weights:
                weight.requires_grad_(shared or number >= count)

    def forget(self, _: object = None) -> None:
        """Throw away the gradients of what is held, so that the optimiser leaves it as it is."""
        for weight in self._held:
            weight.grad = None

    def end(self) -> None:
        """Let everything have a gradient again."""
        for weights in self._weights:
            for weight in weights:
                weight.requires_grad_(True)
        self._held, self._epoch = [], -1


def groups(net: nn.Module) -> list[list[nn.Module]]:
    """Return the layers of a net in groups, in the order in which the net names them.

    A group is a layer or a block with weights that can be trained, and the norms and the layers without such weights
    behind it. `Sequential` and `ModuleList` are taken apart, as is a net that is but a shell around another.

    >>> net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Linear(8, 2))
    >>> [len(group) for group in groups(net)]
    [3, 1]
    """
    layers = list(_layers(net))
    while sum(map(_trains, layers)) == 1 and not _is_leaf(only := next(filter(_trains, layers))):
        layers = list(_layers(only))
    found: list[list[nn.Module]] = [[]]
    for layer in layers:
        if _trains(layer) and not isinstance(layer, _NORMS) and any(map(_trains, found[-1])):
            found.append([])
        found[-1].append(layer)
    return found


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, _CONTAINERS):
            yield from _layers(child)
        else:
            yield child


def _is_leaf(module: nn.Module) -> bool:
    return not any(True for _ in module.children())


def _trains(layer: nn.Module) -> bool:
    return any(weight.requires_grad for weight in layer.parameters())


def _weights(found: list[list[nn.Module]], net: nn.Module) -> list[list[nn.Parameter]]:
    """Return the weights of each group that can be trained; one of several groups belongs to the last of them.

    A weight of the net itself, such as the embedding of a position, belongs to the first.
    """
    seen: set[Tensor] = set()
    made: list[list[nn.Parameter]] = []
    for layers in reversed(found):
        weights = [weight for layer in layers for weight in layer.parameters()]
        weights = [weight for weight in dict.fromkeys(weights) if weight.requires_grad and weight not in seen]
        seen.update(weights)
        made.insert(0, weights)
    if made:
        made[0] += [weight for weight in net.parameters() if weight.requires_grad and weight not in seen]
    return made
