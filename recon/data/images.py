"""Reading image files: what their headers tell, their pixels, a limit on their size, and many of them at once."""

import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from rich.progress import Progress

from recon.errors import InputError

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 256  # calls that wait for a thread


class BadImage(InputError):
    """A file that cannot be used as an image."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} cannot be used as an image ({reason})")
        self.path = path


class Header(NamedTuple):
    """What is known of an image file before it is decoded; `category` is its class folder, "" for none."""

    path: Path
    category: str
    channels: int
    height: int
    width: int


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    """Open an image file; whatever goes wrong until it is closed becomes `BadImage`."""
    try:
        with Image.open(path) as image:
            if image.mode in ("F", "I"):
                raise BadImage(path, "32 bits per value; 8 or 16 are read")
            yield image
    except BadImage:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise BadImage(path, f"more pixels than task.max_pixels={Image.MAX_IMAGE_PIXELS}") from error
    except UnidentifiedImageError as error:
        raise BadImage(path, "empty" if path.stat().st_size == 0 else "not in a format that can be read") from error
    except Exception as error:  # Pillow's decoders raise many kinds on broken files: OSError, SyntaxError, struct.error
        raise BadImage(path, f"{error}" or type(error).__name__) from error


def read_header(path: Path, category: str) -> Header:
    """Read what can be known of an image without decoding it.

    Args:
        path: PNG, JPEG, BMP, TIFF or WebP.
        category: the class folder of the image, "" for none; it is only passed on.

    Returns:
        The size after turning as EXIF says; 1 channel for grey, 3 for colour.

    Raises:
        BadImage: the file is missing, empty, too large or no image.
    """
    with _open(path) as image:
        width, height = image.size
        # A PNG may keep its EXIF after its pixels, and Pillow would decode all of them to look for it there.
        exif = image.getexif() if image.format != "PNG" or "exif" in image.info else {}
        if image.format == "TIFF":  # for which some versions of Pillow tell the size after turning, others before
            width, height = exif[ExifTags.Base.ImageWidth], exif[ExifTags.Base.ImageLength]
        if exif.get(ExifTags.Base.Orientation, 1) >= 5:  # a quarter turn
            width, height = height, width
        return Header(path, category, channels_of(image), height, width)


def read_image(path: Path, channels: int) -> np.ndarray:
    """Read an image file, turned as EXIF says and without alpha.

    Args:
        path: PNG, JPEG, BMP, TIFF or WebP; of 16-bit grey values v, round(v/257) is taken.
        channels: 1 for grey (ITU-R 601-2 luma of colour), 3 for RGB.

    Returns:
        (C,H,W) uint8.

    Raises:
        BadImage: the file is missing, empty, truncated, too large or no image.
    """
    with _open(path) as file:
        return to_array(file, channels)


def channels_of(image: Image.Image) -> int:
    """Return 1 for a grey image, 3 for one in colour."""
    return 1 if image.mode in ("1", "L", "LA") or image.mode.startswith("I;16") else 3


def to_array(file: Image.Image, channels: int) -> np.ndarray:
    """Decode an open image as `read_image` does: (C,H,W) uint8."""
    image = ImageOps.exif_transpose(file)
    if image.mode.startswith("I;16"):
        # 257 is odd, so that no v/257 lies half-way and integers round exactly.
        grey = ((np.asarray(image, np.uint32) + 128) // 257).astype(np.uint8)
        pixels = np.repeat(grey[..., None], channels, axis=2)
    else:
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(image.height, image.width, -1)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


@contextmanager
def pixel_limit(max_pixels: int) -> Iterator[None]:
    """Refuse larger images while they are opened, where Pillow only warns up to twice its limit.

    Both settings are the whole process's, hence around a pool of threads and not in each of them.

    Args:
        max_pixels: the largest height·width that is read.
    """
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        Image.MAX_IMAGE_PIXELS = max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def in_threads(function: Callable[[T], R], items: Sequence[T], title: str) -> list[R]:
    """Call a function for each item, in threads, and show the progress of what takes longer than 2 seconds.

    Args:
        function: what it raises ends the whole.
        items: the arguments, one per call.
        title: what the progress bar is labelled.

    Returns:
        `function(item)` for each item, in the order of `items`.
    """
    start, results = time.monotonic(), []
    with ThreadPoolExecutor() as pool, ExitStack() as shown:
        progress = Progress(transient=True)
        bar = progress.add_task(title, total=len(items))
        for result in _in_order(pool, function, items):
            if not progress.live.is_started and time.monotonic() - start > 2:
                shown.enter_context(progress)
            progress.advance(bar)
            results.append(result)
    return results


def _in_order(pool: ThreadPoolExecutor, function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Give the results in order, some calls ahead: the pool's own `map` keeps an object for each of millions."""
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) == _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
