"""Structured pruning: whole channels go, those of the least weights, until a share of the multiply-adds is left.

Which tensors must lose a channel together is found by torch-pruning (Fang et al., "DepGraph: towards any structural
pruning", CVPR 2023); a channel counts by the squares of all weights that belong to it. Of every layer that can lose
channels the same share goes.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from recon.config.construct import construct
from recon.errors import InputError
from recon.nets.pruned import Pruned

_TRIES = 9  # halvings of the interval in which the share of channels is searched


class Smaller(NamedTuple):
    """A pruned net.

    Attributes:
        net: in evaluation mode.
        shapes: of its tensors that became smaller, see `recon.nets.pruned.Pruned`.
        before, after: multiply-adds of one image.
    """

    net: nn.Module
    shapes: dict[str, list[int]]
    before: int
    after: int


class _Layer(NamedTuple):
    """A layer whose channels can go: its name, and the channels in the order in which they do, some go together."""

    name: str
    order: list[list[int]]


def require_torch_pruning() -> None:
    """Raise InputError unless torch-pruning is installed."""
    try:
        import torch_pruning  # noqa: F401
    except ImportError as error:
        raise InputError(
            "method: pruning needs the package torch-pruning; install it by pip install 'recon-images[shrink]'"
        ) from error


def multiply_adds(net: nn.Module, image: Tensor) -> int:
    """Count the multiply-adds of convolutions and matrix products for what a net is given."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        net(image)
    return int(counter.get_total_flops()) // 2


def pruned(net: nn.Module, image: Tensor, keep: float) -> Smaller:
    """Prune a copy of a net.

    Args:
        net: any whose result for `image` is one tensor.
        image: (1,C',h,w), of the size that multiply-adds are counted for.
        keep: the share of the multiply-adds to keep, in (0,1].

    Raises:
        InputError: no layer can lose channels, or not enough of them.
    """
    net = copy.deepcopy(net).eval().requires_grad_(True)
    before = multiply_adds(net, image)
    layers = list(_layers(net, image))
    if not layers:
        raise InputError(f"run: {type(net).__name__} cannot be pruned, as no layer of it can lose channels alone; "
                         "choose method=quantise or method=distil")  # fmt: skip

    made: dict[tuple[int, ...], tuple[nn.Module, int]] = {}  # of small nets many shares cut the same

    def cut(share: float) -> tuple[nn.Module, int]:
        cuts = {layer.name: _first(layer.order, share) for layer in layers}
        key = tuple(map(len, cuts.values()))
        if key not in made:
            smaller = _without(net, image, cuts)
            made[key] = smaller, multiply_adds(smaller, image)
        return made[key]

    best, least = cut(1.0)
    if least > keep * before:
        raise InputError(f"keep: at least {least / before:.2g} of the multiply-adds of {type(net).__name__} stay, as "
                         "not all of its layers can lose channels; give more, or choose method=distil")  # fmt: skip
    low, high = 0.0, 1.0
    for _ in range(_TRIES):
        middle = (low + high) / 2
        candidate, count = cut(middle)
        if count <= keep * before:
            high, best = middle, candidate
        else:
            low = middle
    shapes = {name: list(tensor.shape) for name, tensor in best.state_dict().items()}
    old = {name: list(tensor.shape) for name, tensor in net.state_dict().items()}
    changed = {name: shape for name, shape in shapes.items() if shape != old[name]}
    return Smaller(best.requires_grad_(False), changed, before, multiply_adds(best, image))


def node_of(node: dict[str, Any], shapes: dict[str, list[int]]) -> dict[str, Any]:
    """Return the node `model.net` that builds the pruned form of what another one builds, which may be pruned too."""
    target = f"{Pruned.__module__}.{Pruned.__qualname__}"
    if node.get("_target_") == target:
        node, shapes = node["net"], {**node["shapes"], **shapes}
    return {"_target_": target, "net": node, "shapes": shapes}


def require_rebuilt(smaller: Smaller, node: dict[str, Any], facts: dict[str, Any], image: Tensor) -> None:
    """Raise InputError unless the net that a node builds, with the weights of the pruned one, gives the same."""
    again: nn.Module = construct(node, "model.net", facts).eval()
    again.load_state_dict(smaller.net.state_dict())
    with torch.no_grad():
        same = torch.allclose(again(image), smaller.net(image), rtol=1e-4, atol=1e-5)
    if not same:
        raise InputError(f"run: {type(again).__name__} cannot be pruned, as it keeps numbers of channels beside its "
                         "weights; choose method=quantise or method=distil")  # fmt: skip


def _first(order: list[list[int]], share: float) -> list[int]:
    """Return the channels that go first: a share of them, but never all."""
    count = min(len(order) - 1, round(share * len(order)))
    return sorted(channel for together in order[:count] for channel in together)


def _layers(net: nn.Module, image: Tensor) -> Iterator[_Layer]:
    """Yield the layers that can lose channels without changing the shape of the result, one for each group."""
    import torch_pruning

    with _quiet(), torch.no_grad():
        shape = net(image).shape
    importance = torch_pruning.importance.GroupMagnitudeImportance(p=2)
    names = {layer: name for name, layer in net.named_modules()}
    with _quiet():
        groups = list(_graph(net, image).get_all_groups())
    for group in groups:
        try:
            scores = importance(group)
        except IndexError:  # of tensors that shuffle channels into pixels
            continue
        if not isinstance(scores, Tensor) or len(scores) < 2:
            continue
        name = names[group[0].dep.target.module]
        together = _together(net, image, name)
        apart = len(scores) // max(1, len(together))
        if not together or together != [n * apart for n in range(len(together))]:
            continue
        # Channels of a gate go with the values that it multiplies.
        summed = scores.view(len(together), apart).sum(0)
        order = [[n * apart + int(channel) for n in range(len(together))] for channel in summed.argsort(stable=True)]
        if apart > 1 and _works(net, image, {name: sorted(order[0])}, shape):
            yield _Layer(name, order)


def _together(net: nn.Module, image: Tensor, name: str) -> list[int]:
    """Return the channels of a layer that go when its first one does; none where that cannot be told."""
    with _quiet():
        try:
            graph = _graph(net, image)
            layer = net.get_submodule(name)
            group = graph.get_pruning_group(layer, graph.get_pruner_of_module(layer).prune_out_channels, [0])
        except Exception:  # what torch-pruning cannot follow ends in any kind of exception
            return []
        return sorted({int(channel) for item in group if item.dep.target.module is layer
                       and graph.is_out_channel_pruning_fn(item.dep.handler) for channel in item.idxs})  # fmt: skip


def _works(net: nn.Module, image: Tensor, cuts: dict[str, list[int]], shape: torch.Size) -> bool:
    try:
        with torch.no_grad():
            return bool(_without(net, image, cuts)(image).shape == shape)
    except Exception:  # as above; a net that does not run any more may raise anything
        return False


def _without(net: nn.Module, image: Tensor, cuts: dict[str, list[int]]) -> nn.Module:
    """Return a copy of a net without some channels of its layers, and without all that belongs to these."""
    smaller = copy.deepcopy(net)
    with _quiet():
        graph = _graph(smaller, image)
        for name, channels in cuts.items():
            layer = smaller.get_submodule(name)
            if channels:
                remove: Callable[..., Any] = graph.get_pruner_of_module(layer).prune_out_channels
                graph.get_pruning_group(layer, remove, channels).prune()
    return smaller


def _graph(net: nn.Module, image: Tensor) -> Any:
    import torch_pruning

    with torch.enable_grad():
        return torch_pruning.DependencyGraph().build_dependency(net, image, verbose=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch-pruning warns of its own steps from a person who cannot act on it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
