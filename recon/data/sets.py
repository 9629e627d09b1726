"""The public sets of images that a task names: where they lie below `data.root`, and where to get them."""

import os
import re
from pathlib import Path
from typing import NamedTuple

from recon.errors import InputError


class ImageSet(NamedTuple):
    """A public set of images.

    Attributes:
        channels: 1 where it is grey, 3 in colour.
        folders: where it usually lies below `data.root`; capitals, hyphens and underscores do not matter.
        source: where to get it; "" where recon's users have it from no public place.
    """

    channels: int
    folders: tuple[str, ...]
    source: str = ""


_DNCNN = "https://github.com/cszn/DnCNN"
_FBCNN = "https://github.com/jiaxi-jiang/FBCNN"
_SELFEX = "https://github.com/jbhuang0604/SelfExSR"

# A further set is one line.
SETS = {
    "bsd400": ImageSet(1, ("train400", "bsd400"), _DNCNN),
    "open_photos_train": ImageSet(3, ("open-photos/train",)),
    "open_photos": ImageSet(3, ("open-photos/test",)),
    "div2k": ImageSet(3, ("DIV2K/DIV2K_train_HR", "DIV2K_train_HR"), "https://data.vision.ee.ethz.ch/cvl/DIV2K"),
    "bsd68": ImageSet(1, ("bsd68",), _DNCNN),
    "set12": ImageSet(1, ("set12",), _DNCNN),
    "classic5": ImageSet(1, ("classic5",), _FBCNN),
    "live1": ImageSet(3, ("live1", "live1_color"), _FBCNN),
    "set5": ImageSet(3, ("set5",), _SELFEX),
    "set14": ImageSet(3, ("set14",), _SELFEX),
    "bsd100": ImageSet(3, ("bsd100", "bsds100", "b100"), _SELFEX),
    "urban100": ImageSet(3, ("urban100",), _SELFEX),
    "manga109": ImageSet(3, ("manga109",), "http://www.manga109.org"),
    "cbsd68": ImageSet(3, ("cbsd68",), "https://github.com/clausmichele/CBSD68-dataset"),
    "kodak24": ImageSet(3, ("kodak24", "kodak"), "https://r0k.us/graphics/kodak"),
    "mcmaster": ImageSet(3, ("mcmaster", "mcm"), "https://www4.comp.polyu.edu.hk/~cslzhang/CDM_Dataset.htm"),
}
_INSIDE = ("hr", "gt", "original", "originalpng")  # folders of the clean images of a set that has degraded ones too


def folder_of(name: str, root: Path) -> Path | None:
    """Find the folder of a named set below `root`; None where it is not there."""
    for place in SETS[name].folders:
        folder: Path | None = root
        for part in place.split("/"):
            folder = folder and _below(folder, _plain(part))
        if folder is not None:
            return next((inner for word in _INSIDE if (inner := _below(folder, word))), folder)
    return None


def pattern_of(key: str, name: str, root: Path) -> str:
    """Return the glob of a named set's images; raises InputError where the set is not below `root`."""
    folder = folder_of(name, root)
    if folder is None:
        source = SETS[name].source
        remedy = f"get it from {source}" if source else "take images of your own by task=folder task.path=<folder>"
        usual = " or ".join(str(root / place) for place in SETS[name].folders)
        raise InputError(
            f"{key}={name} is not there: it is looked for as {usual}; {remedy}, or set data.root (or RECON_DATA) to "
            "the folder above it."
        )
    return str(folder / "*")


def _below(folder: Path, word: str) -> Path | None:
    """Return the folder in another one whose plain name is a word."""
    try:
        with os.scandir(folder) as entries:
            return next((Path(entry.path) for entry in entries if _plain(entry.name) == word and entry.is_dir()), None)
    except OSError:
        return None


def _plain(name: str) -> str:
    return re.sub(r"[-_ ]", "", name).lower()
