"""What a dashboard is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy
    from PIL.Image import Image
    from torch import Tensor


@dataclass(frozen=True)
class About:
    """What a dashboard shows of a run besides its numbers.

    Attributes:
        folder: the run folder, where dashboards keep their files too.
        config: the resolved configuration.
        project: the W&B project, or None for what W&B's variable says, else "recon".
        group: the W&B group, or None for what W&B's variable says.
        name: the W&B run's name, or None for what W&B's variable says, else that of the folder.
        tags: the W&B run's tags, or none for those of W&B's variable.
    """

    folder: Path
    config: Mapping[str, Any]
    project: str | None
    group: str | None
    name: str | None
    tags: list[str]


class Dashboard(Protocol):
    """What a dashboard can be told; steps never go down."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Show numbers of a training step."""

    def image(self, name: str, image: Image, step: int) -> None:
        """Show a picture."""

    def results(self, columns: Mapping[str, Tensor], samples: Mapping[str, numpy.ndarray], step: int) -> None:
        """Show the table of a test.

        Args:
            columns: (N,) each, a value for each test image.
            samples: (B,H,W,3) uint8 each, pictures of the first B of them.
            step: the training step.
        """

    def close(self, metrics: Mapping[str, float], status: str) -> None:
        """End with the run's metrics and "ok", "failed" or "interrupted"."""

    @staticmethod
    def abandon() -> None:
        """Let go without waiting for anything: a call has failed or hangs, be it the one that makes the dashboard."""

    def answers(self) -> bool:
        """Is it worth waiting for the last of it?"""
