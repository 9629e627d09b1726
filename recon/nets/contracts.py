"""What the modules ask of their nets: which calls a net takes, and what it gives back."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from recon.errors import InputError


@runtime_checkable
class Contract(Protocol):
    """Any net: it can be called."""

    def __call__(self, *inputs: Any) -> Any:
        """Do what the net is for."""


@runtime_checkable
class Restorer(Contract, Protocol):
    """Maps images (B,C',h,w), whose first C channels are the image, to images (B,C,H,W)."""


@runtime_checkable
class AnySizeRestorer(Restorer, Protocol):
    """Restores images of any size, not only of that which it was built for."""


@runtime_checkable
class Classifier(Contract, Protocol):
    """Maps images (B,C,H,W) to the scores (B,K) of K classes."""


@runtime_checkable
class Coder(Contract, Protocol):
    """Maps images (B,C,H,W) to the same, rebuilt from codes (B,...)."""

    def encode(self, x: Tensor) -> Tensor:
        """Compress images (B,C,H,W) into codes (B,...)."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """Rebuild images from codes (B,...): (B,C,H,W), or larger at the right and at the bottom."""
        ...


@runtime_checkable
class VariationalCoder(Contract, Protocol):
    """Describes images by distributions of codes (B,D), and rebuilds images from codes.

    A net with `num_classes` above 0 is conditional: both calls take the labels (B,) too, -1 for none.
    """

    latent_dim: int

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Describe images (B,C,H,W) by the mean and log-variance of their codes, (B,D) each."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """Rebuild images (B,C,H,W) from codes (B,D)."""
        ...


@runtime_checkable
class Players(Contract, Protocol):
    """A generator, from noise (B,D) and labels (B,) to images, and a discriminator of images and labels, to (B,)."""

    latent_dim: int
    generator: Any
    discriminator: Any


@runtime_checkable
class Guided(Contract, Protocol):
    """Maps images (B,C,H,W) at times (B,) in [0,1] with labels (B,), -1 for none, to (B,C,H,W)."""


class Blank(NamedTuple):
    """A batch of one black image.

    Attributes:
        image: (1,C',h,w), what a net is given.
        clean: (1,C,H,W), what it should make of it.
        label: (1,) int64.
        num_classes: K.
    """

    image: Tensor
    clean: Tensor
    label: Tensor
    num_classes: int


def lacking(net: object, contract: type) -> list[str]:
    """List the methods and attributes of a contract that a net does not have."""
    members = {name for kind in contract.__mro__[:-1] for name in (*vars(kind), *getattr(kind, "__annotations__", {}))}
    asked = sorted(name for name in members if not name.startswith("_"))
    return [name for name in asked if not hasattr(net, name)]


def misfit(net: Any, contract: type, blank: Blank) -> str | None:
    """Try whether a net keeps a contract: None, or what it lacks, as the rest of a sentence that begins with its name.

    Raises:
        InputError: the net itself refuses the image, as one that is too small.
    """
    if missing := lacking(net, contract):
        return f"has no {' and no '.join(missing)}"
    try:
        with torch.no_grad():
            # A module of the user's own may have a contract of its own.
            return next(_TRIALS[kind] for kind in contract.__mro__ if kind in _TRIALS)(net, blank)
    except InputError:
        raise
    except Exception as error:  # a user's own net may raise anything
        if isinstance(error, TypeError) and "positional argument" in str(error):
            return f"is called in another way ({_first_line(error)})"
        size = "×".join(map(str, blank.image.shape[1:]))
        return f"does not work on images of {size} ({_first_line(error)})"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _try_restorer(net: Any, blank: Blank) -> str | None:
    return _unlike(net(blank.image), blank.clean, "gives")


def _try_any_size_restorer(net: Any, blank: Blank) -> str | None:
    if getattr(net, "fixed_size", False):
        return "takes images of one size alone"
    return _try_restorer(net, blank)


def _try_classifier(net: Any, blank: Blank) -> str | None:
    scores = net(blank.image)
    if _shape(scores) == (1, blank.num_classes):
        return None
    return f"gives {_words(scores)} for an image, not the scores of {blank.num_classes} classes"


def _try_coder(net: Any, blank: Blank) -> str | None:
    code = net.encode(blank.image)
    if not isinstance(code, Tensor):
        return f"gives {_words(code)} as the code of an image, not a tensor"
    image = net.decode(code)
    if isinstance(image, Tensor) and image.ndim == 4:  # what a net has padded is cut off by the module
        image = image[..., : blank.clean.shape[2], : blank.clean.shape[3]]
    return _unlike(image, blank.clean, "decodes a code to") or _try_restorer(net, blank)


def _try_variational_coder(net: Any, blank: Blank) -> str | None:
    described = net.encode(blank.image)
    wanted = (1, net.latent_dim)
    if not isinstance(described, tuple) or [*map(_shape, described)] != [wanted, wanted]:
        return f"gives {_words(described)} as the code of an image, not a mean and a log-variance"
    return _unlike(net.decode(described[0]), blank.clean, "decodes a code to")


def _try_players(net: Any, blank: Blank) -> str | None:
    noise = blank.clean.new_zeros(1, net.latent_dim)
    if reason := _unlike(net.generator(noise, blank.label), blank.clean, "generates"):
        return reason
    logit = net.discriminator(blank.clean, blank.label)
    return None if _shape(logit) == (1,) else f"has a discriminator that gives {_words(logit)}, not one logit an image"


def _try_guided(net: Any, blank: Blank) -> str | None:
    return _unlike(net(blank.clean, blank.clean.new_zeros(1), blank.label), blank.clean, "gives")


_TRIALS: dict[type, Callable[[Any, Blank], str | None]] = {
    Contract: lambda net, blank: None,
    Restorer: _try_restorer,
    AnySizeRestorer: _try_any_size_restorer,
    Classifier: _try_classifier,
    Coder: _try_coder,
    VariationalCoder: _try_variational_coder,
    Players: _try_players,
    Guided: _try_guided,
}


def _unlike(image: Any, clean: Tensor, gives: str) -> str | None:
    if _shape(image) == tuple(clean.shape):
        return None
    return f"{gives} {_words(image)}, not an image of {'×'.join(map(str, clean.shape[1:]))}"


def _shape(x: Any) -> tuple[int, ...]:
    return tuple(x.shape) if isinstance(x, Tensor) else ()


def _words(x: Any) -> str:
    if not isinstance(x, Tensor):
        return f"a {type(x).__name__}"
    size = "×".join(map(str, x.shape[1:]))
    return f"an image of {size}" if x.ndim == 4 else f"{size or 'one'} numbers"
