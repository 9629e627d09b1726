"""Image files: their headers, their pixels, a limit on their size, and many of them in threads."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image
from rich.progress import Progress

from recon.data.pixels import Unusable, channels_of, opened, size_of, to_array
from recon.errors import InputError

T = TypeVar("T")
R = TypeVar("R")

_QUEUED = 4096  # calls handed to the threads at once: millions of waiting calls would fill the memory


class BadImage(InputError):
    """A file that cannot be used as an image."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} cannot be used as an image ({reason})")
        self.path = path


class Header(NamedTuple):
    """An image file before it is decoded, with its size when turned; `category` is its class folder, "" for none."""

    path: Path
    category: str
    channels: int
    height: int
    width: int


def read_header(path: Path, category: str) -> Header:
    """Read the header of a PNG, JPEG, BMP, TIFF or WebP file; raises BadImage as `read_image`, but for truncation."""
    with _opened(path) as image:
        return Header(path, category, channels_of(image), *size_of(image))


def read_image(path: Path, channels: int) -> np.ndarray:
    """Read an image file as `recon.data.pixels.to_array` does: (C,H,W) uint8.

    Args:
        path: PNG, JPEG, BMP, TIFF or WebP.
        channels: 1 for grey (ITU-R 601-2 luma of colour), 3 for RGB.

    Raises:
        BadImage: the file is missing, empty, truncated, too large or no image.
    """
    with _opened(path) as image:
        return to_array(image, channels)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with opened(path) as image:
            yield image
    except Unusable as error:
        raise BadImage(path, str(error)) from error


@contextmanager
def pixel_limit(max_pixels: int) -> Iterator[None]:
    """Refuse images of more than `max_pixels` while they are opened; Pillow only warns up to twice its limit.

    Both settings are process-wide: wrap the pool, not its threads.
    """
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        Image.MAX_IMAGE_PIXELS = max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def abridged(names: Sequence[str]) -> str:
    """Name the first five of many."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def warn_omitted(names: Sequence[str], total: int) -> None:
    """Name the first of the bad images, if any, that are left out of `total`."""
    if names:
        message = f"left out {len(names)} of {total} images that cannot be used: {abridged(names)}"
        warnings.warn(message, stacklevel=3)


def in_threads(function: Callable[[T], R], items: Sequence[T], title: str) -> list[R]:
    """Return `function(item)` for each item in order, computed in threads, with a progress bar after 2 seconds.

    Args:
        function: an exception in it ends the whole.
        items: the arguments, one per call.
        title: the label of the progress bar.
    """
    start, results = time.monotonic(), []
    with ThreadPoolExecutor() as pool, ExitStack() as shown:
        progress = Progress(transient=True)
        bar = progress.add_task(title, total=len(items))
        for first in range(0, len(items), _QUEUED):
            for result in pool.map(function, items[first : first + _QUEUED]):
                if not progress.live.is_started and time.monotonic() - start > 2:
                    shown.enter_context(progress)
                progress.advance(bar)
                results.append(result)
    return results
