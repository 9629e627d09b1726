"""The image files that a folder or a glob names, and the store of their pixels."""

import hashlib
import json
import os
import re
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

import numpy as np
import PIL
import torch

from recon.data.cache import Write, in_memory, mapped
from recon.data.find import Found, expanded, find
from recon.data.images import BadImage, Header, abridged, in_threads, pixel_limit, read_header, read_image, warn_omitted
from recon.data.pixels import READING
from recon.data.store import ImageStore
from recon.errors import InputError

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class ImageFiles:
    """The image files that a folder or a glob names.

    Attributes:
        key: the key of the configuration with the value `pattern`, for messages.
        pattern: a folder, or a glob (`**` for any depth).
        max_pixels: larger images are bad ones.
        on_bad_image: "raise" for an unreadable file, or "skip" to leave it out with a warning.
        remedy: what to do about a bad image, for messages.
    """

    key: str
    pattern: str
    max_pixels: int
    on_bad_image: Literal["raise", "skip"] = "raise"
    remedy: str = "replace or remove it, or set task.on_bad_image=skip"

    SUFFIXES: ClassVar = {".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp"}

    @cached_property
    def headers(self) -> list[Header]:
        """Read the headers of all images, sorted by path; raises InputError if there is none, or a bad one."""
        with pixel_limit(self.max_pixels):
            headers = self._each(lambda item: read_header(*item), self._with_category(), "Reading image headers")
        good = [header for header in headers if isinstance(header, Header)]
        warn_omitted([header.path.name for header in headers if isinstance(header, BadImage)], len(headers))
        if not good:
            raise InputError(
                f"{self.key}={self.pattern} has no readable image: give a folder or a glob of good images."
            )
        return good

    def name(self, path: Path) -> str:
        """Return the name of an image: its path below the folder, without suffix."""
        return _visible(path.relative_to(self._listing.base).with_suffix("").as_posix())

    def by_name(self) -> dict[str, Header]:
        """Return the headers by name; raises InputError when two images share one."""
        headers: dict[str, Header] = {}
        for header in self.headers:
            other = headers.setdefault(self.name(header.path), header)
            if other is not header:
                raise InputError(
                    f"{self.key}={self.pattern} has {header.path.name} beside {other.path.name}: images and their "
                    "degraded ones are paired by name without suffix, so rename one."
                )
        return headers

    def store(
        self, headers: Sequence[Header], channels: int, classes: Sequence[str] = (), cache: Path | None = None
    ) -> ImageStore:
        """Decode images.

        Args:
            headers: the images, from `headers`.
            channels: 1 for grey, 3 for RGB.
            classes: the class folders in the order of their numbers; an image outside them has the label -1.
            cache: the folder of mapped stores, see `recon.data.cache`; `None` reads the images into memory.

        Raises:
            InputError: no image can be read, or there is no space for them.
        """
        shape = np.array([(channels, header.height, header.width) for header in headers], np.int64)
        lengths = shape.prod(1)

        def fill(write: Write) -> list[bool]:
            def decode(index: int) -> bool:
                write(index, _read(headers[index], channels))
                return True

            title = "Reading images" if cache is None else "Building the store of images"
            with pixel_limit(self.max_pixels):
                return [done is True for done in self._each(decode, range(len(headers)), title)]

        check = None
        if cache is None:
            buffer, good = in_memory(lengths, fill)
        else:
            buffer, good, check = mapped(cache, self._store_name(channels), self._content(headers), lengths, fill)
        warn_omitted([header.path.name for header, ok in zip(headers, good, strict=True) if not ok], len(headers))
        if not good.any():
            raise InputError(f"none of {len(headers)} images can be read, such as {headers[0].path}: replace them.")
        numbers = {category: number for number, category in enumerate(classes)}
        labels = [numbers.get(header.category, -1) for header in headers]
        # An array of objects: repeats of an image then share its name.
        base = self._listing.base
        names = np.array([_visible(header.path.relative_to(base).as_posix()) for header in headers], object)
        offset = torch.from_numpy(lengths.cumsum() - lengths)
        whole = ImageStore(buffer, offset, torch.from_numpy(shape), torch.tensor(labels), names, check)
        return whole if good.all() else whole.subset(torch.from_numpy(good).nonzero().squeeze(1))

    @cached_property
    def _listing(self) -> Found:
        """Find the files, and warn of those left out."""
        files = find(self.key, self.pattern, self.SUFFIXES)
        if files.repeats:
            warnings.warn(
                f"{self.key}={self.pattern}: left out {len(files.repeats)} further names of files and folders, as each "
                f"counts once whatever links lead to it: {abridged(files.repeats)}",
                stacklevel=2,
            )
        if files.ignored:
            kinds = ", ".join(f"{count} {kind}" for kind, count in files.ignored.most_common())
            warnings.warn(f"{self.key}={self.pattern}: ignored files that are no images by name: {kinds}", stacklevel=2)
        return files

    def _with_category(self) -> list[tuple[Path, str]]:
        """List (file, class folder), sorted by path."""
        base, paths = self._listing.base, self._listing.files
        if not paths:
            raise InputError(
                f"{self.key}={self.pattern} matches no image: give a folder or a glob of "
                f"{', '.join(sorted(self.SUFFIXES))} files."
            )
        if not os.path.isdir(expanded(self.pattern)):
            return [(path, "") for path in paths]
        flat = [path.parent == base for path in paths]
        if any(flat) and not all(flat):
            raise InputError(
                f"{self.key}={self.pattern} has images both beside and inside its folders: move them all into class "
                f"folders or all out of them, or give a glob such as {base}/*.png."
            )
        return [(path, "" if flat[0] else _visible(path.relative_to(base).parts[0])) for path in paths]

    def _store_name(self, channels: int) -> str:
        """Name a mapped store by the files and the way of reading them."""
        source = json.dumps([str(expanded(self.pattern).absolute()), channels, self.on_bad_image])
        readable = re.sub(r"[^\w.]", "_", self._listing.base.absolute().name)[:40]
        return f"{readable}-{hashlib.sha256(source.encode()).hexdigest()[:8]}"

    def _content(self, headers: Sequence[Header]) -> bytes:
        """Hash what the pixels of a mapped store depend on; the files are identified without reading them."""
        # The versions of the JPEG decoder and of `recon.data.pixels`.
        digest = hashlib.sha256(f"{PIL.__version__} {READING}\n".encode())
        for header in headers:
            try:
                status = header.path.stat()
            except OSError as error:
                raise InputError(
                    f"{header.path} is gone ({error.strerror}): run again when the folder no longer changes."
                ) from error
            line = [self.name(header.path), header.path.suffix, status.st_size, status.st_mtime_ns, *header[2:]]
            digest.update(json.dumps(line).encode())
        return digest.digest()

    def _each(self, function: Callable[[T], R], items: Sequence[T], title: str) -> list[R | BadImage]:
        """Apply a function to each item and return its BadImage, if any; raises InputError unless these are skipped."""

        def attempt(item: T) -> R | BadImage:
            try:
                return function(item)
            except BadImage as error:
                if self.on_bad_image == "raise":
                    raise InputError(f"{error}: {self.remedy}.") from error
                return error

        return in_threads(attempt, items, title)


def _visible(name: str) -> str:
    """Normalise a name: macOS splits "ö" into two characters, other systems do not."""
    return unicodedata.normalize("NFC", name)


def _read(header: Header, channels: int) -> np.ndarray:
    image = read_image(header.path, channels)
    if image.shape != (channels, header.height, header.width):
        raise BadImage(header.path, "its header has another size")
    return image
