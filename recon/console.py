"""What a run says to the person who started it; only the first process speaks."""

import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeVar

from lightning.pytorch.utilities import rank_zero_only

from recon.report.gains import Gain
from recon.streams import printable

T = TypeVar("T")
_PATIENCE = 2.0  # seconds after which a bar shows how far something is


@rank_zero_only
def say(line: str) -> None:
    """Print one line."""
    # Not through rich, which would wrap a path that someone may copy.
    print(printable(line), flush=True)


def is_watched() -> bool:
    """Return whether the output goes to a terminal or a notebook, where a bar can move, and not to a file or a pipe."""
    from rich.console import Console

    console = Console()
    return console.is_terminal or console.is_jupyter


def tracked(items: Collection[T], title: str) -> Iterator[T]:
    """Yield items, with a progress bar where that takes more than two seconds and someone watches."""
    from rich.progress import Progress

    progress, started = Progress(transient=True, disable=not is_watched()), time.monotonic()
    bar = progress.add_task(title, total=len(items))
    try:
        for item in items:
            if not progress.live.is_started and time.monotonic() - started > _PATIENCE:
                progress.start()
            yield item
            progress.advance(bar)
    finally:
        progress.stop()


@rank_zero_only
def show_gains(images: str, found: Sequence[Gain]) -> None:
    """Print a table of what some images gained: a row for each measure; and say so where the model is no better."""
    from rich.console import Console
    from rich.table import Table

    table = Table(images, "before", "after", "gain [95 % interval]", "images")
    for gain in found:
        table.add_row(*gain.texts(), f"{gain.images:,}")
    Console().print(table)
    if verdict := found[0].verdict():
        say(f"warning: {images}: {verdict}" if images != "test images" else f"warning: {verdict}")


@rank_zero_only
def show_metrics(metrics: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]) -> None:
    """Print a table of a run's metrics, some with their intervals: a row for each, a column for each split."""
    from rich.console import Console
    from rich.table import Table

    splits = list(dict.fromkeys(name.split("/")[0] for name in metrics))
    table = Table("metric", *splits)
    for row in dict.fromkeys(name.split("/", 1)[1] for name in metrics):
        names = [f"{split}/{row}" for split in splits]
        table.add_row(row, *(_written(metrics[name], intervals.get(name)) if name in metrics else "" for name in names))
    Console().print(table)


def _written(value: float, interval: tuple[float, float] | None) -> str:
    """Write a value with its interval, to two digits of how wide that is."""
    if interval is None:
        return _short(value)
    low, high = interval
    digits = max(0, 1 - math.floor(math.log10(high - low))) if high > low else 3
    return f"{_short(value)} [{low:.{digits}f}, {high:.{digits}f}]"


def _short(value: float) -> str:
    """Four significant digits, but no power of ten for large numbers."""
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
