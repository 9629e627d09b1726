"""A net with fewer channels than its class builds: what structured pruning has left of it."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from recon.errors import InputError

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Pruned(nn.Module):
    """Build a net and cut its tensors to recorded shapes; the result is of the net's own class.

    >>> net = Pruned(nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 1, 3)), {"0.weight": [2, 1, 3, 3], "0.bias": [2],
    ...                                                                     "1.weight": [1, 2, 3, 3]})
    >>> net(torch.zeros(1, 1, 8, 8)).shape, net[0].out_channels
    (torch.Size([1, 1, 4, 4]), 2)

    Args:
        net: as its own class builds it.
        shapes: of the parameters and buffers that are smaller, by their names in the net.

    Raises:
        InputError: a tensor that the net does not have, or a shape that is larger.
    """

    def __new__(cls, net: nn.Module, shapes: Mapping[str, Sequence[int]]) -> nn.Module:  # type: ignore[misc]
        """Cut the net, in place, and return it."""
        own = {**dict(net.named_parameters()), **dict(net.named_buffers())}
        for name, shape in shapes.items():
            old = own.get(name)
            sizes = tuple(shape) if isinstance(shape, list | tuple) else ()
            if old is None or not _is_part(sizes, old):
                has = "has no such tensor" if old is None else f"has it of {list(old.shape)}"
                raise InputError(f"shapes: {name[:80]} of {shape} is no part of this net, which {has}; correct it")
            _cut(net, name, old, sizes)
        for layer in net.modules():
            _count(layer)
        return net


def _is_part(shape: tuple[int, ...], tensor: Tensor) -> bool:
    return len(shape) == tensor.ndim and all(
        type(side) is int and 1 <= side <= most for side, most in zip(shape, tensor.shape, strict=True)
    )


def _cut(net: nn.Module, name: str, old: Tensor, shape: tuple[int, ...]) -> None:
    owner, _, last = name.rpartition(".")
    layer = net.get_submodule(owner)
    new = old.detach()[tuple(slice(side) for side in shape)].clone()
    if isinstance(old, nn.Parameter):
        setattr(layer, last, nn.Parameter(new, requires_grad=old.requires_grad))
    else:
        setattr(layer, last, new)


def _count(layer: nn.Module) -> None:
    """Let a layer know how many channels it has."""
    if isinstance(layer, _CONVOLUTIONS):
        outputs, inputs = layer.weight.shape[:2]
        if layer.groups == layer.out_channels == layer.in_channels:  # depth-wise
            layer.groups = outputs
        layer.out_channels, layer.in_channels = outputs, inputs * layer.groups
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is not None:
        layer.num_features = len(layer.running_mean)
    elif isinstance(layer, nn.LayerNorm) and layer.elementwise_affine:
        layer.normalized_shape = tuple(layer.weight.shape)
    elif isinstance(layer, nn.GroupNorm) and layer.affine:
        layer.num_channels = len(layer.weight)
