"""What a dashboard is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

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


class Dashboard:
    """Where the numbers and images of a run are mirrored, by calls from one thread; steps never decrease.

    What is not overridden is not shown. Further parameters of a subclass's `__init__` are its own keys of `logger`.

    Attributes:
        title: its name, for messages.
        package: the Python package that it needs, or "".
        install: what to give to `pip install` for it.
    """

    title: ClassVar[str]
    package: ClassVar[str] = ""
    install: ClassVar[str] = ""

    def __init__(self, about: About) -> None: ...

    @classmethod
    def chosen(cls) -> type[Dashboard] | None:
        """Return the dashboard to use: this one; another one, or none, where it chooses by circumstances."""
        return cls

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Show numbers of a training step."""

    def image(self, name: str, image: Image, step: int) -> None:
        """Show a picture."""

    def results(
        self,
        columns: Mapping[str, Tensor],
        samples: Mapping[str, Sequence[numpy.ndarray]],
        classes: Sequence[str],
        step: int,
    ) -> None:
        """Show the table of a test.

        Args:
            columns: (N,) each, a value for each test image.
            samples: B pictures (H,W,3) uint8 each, of the first B of them.
            classes: the names of the classes in the order of their numbers, or none.
            step: the training step.
        """

    def close(self, metrics: Mapping[str, float], status: str) -> None:
        """End with the run's metrics and "ok", "failed" or "interrupted"."""

    @staticmethod
    def abandon() -> None:
        """Let go at once: a call has failed or hangs, perhaps the one that makes the dashboard."""

    def answers(self) -> bool:
        """Return whether it is worth waiting for the last calls."""
        return True
