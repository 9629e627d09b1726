"""The result of a step, and what a test leaves beside its numbers."""

from typing import Any, NamedTuple

from PIL.Image import Image
from torch import Tensor

# A table by its rows, or a picture.
Artifact = list[dict[str, Any]] | Image


class Outcome(NamedTuple):
    """The result of a step on a batch; every value is per image, so that no number depends on the batch size.

    Attributes:
        loss: (B,) training minimises its mean.
        image: (B,C,H,W) the restored image, or None.
        terms: (B,) each, further quantities to record, by name; logged in training too.
        columns: (B,) or (B,D) each, what an evaluation records beside: predictions, labels, features for `conclude`.
    """

    loss: Tensor
    image: Tensor | None = None
    terms: dict[str, Tensor] = {}  # noqa: RUF012  read only
    columns: dict[str, Tensor] = {}  # noqa: RUF012
