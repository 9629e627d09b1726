"""Draw every degradation at three severities on a photograph and a digit: `python docs/gallery.py <picture>.webp`."""

import sys
from collections.abc import Iterator
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from PIL import Image, ImageDraw
from torch import Tensor

from recon import keyed
from recon.config.construct import construct
from recon.data.images import read_image
from recon.degradations import Degradation
from recon.filters.resize import resize
from recon.runs.files import write_bytes

CONF = Path(__file__).absolute().parents[1] / "conf" / "degradation"
_CELL, _GAP, _TITLE, _COLUMNS = 112, 3, 15, 2  # pixels, but for the columns
_DRAWS = 33  # keys among which a combination's mild, medium and strong draws are searched


def subjects() -> list[Tensor]:
    """Return the images to degrade: a part of a photograph (1,3,112,112), a handwritten digit (1,1,28,28)."""
    from sklearn.datasets import load_digits

    cat = torch.from_numpy(read_image(Path(str(files("skimage"))) / "data" / "chelsea.png", 3))
    cat = cat[:, 62:174, 140:252].unsqueeze(0).float().div(255)
    digit = torch.from_numpy(load_digits().images[3:4]).float().div(16).unsqueeze(1)
    return [cat, resize(digit, (28, 28), "bicubic").clamp(0, 1)]


def at_three_severities(node: dict[str, Any], clean: Tensor) -> list[Tensor]:
    """Degrade an image (1,C,H,W) mildly, medium and strongly: three of (C,h,w).

    Args:
        node: the degradation's configuration. If its class has `examples`, these replace the parameter's value;
            otherwise the draws of the least, the median and the greatest severity are taken.
        clean: the image.
    """
    operator: Degradation = construct(node, "degradation")
    keys = keyed.keys(0, "gallery", 0, torch.arange(_DRAWS))
    if operator.examples:
        parameter, values = operator.examples
        operators = [construct({**node, parameter: value}, "degradation") for value in values]
        return [example(clean, keys[:1]).image[0] for example in operators]
    image, _, severity = operator(clean.expand(_DRAWS, -1, -1, -1), keys)
    order = severity.argsort(stable=True)
    return [image[index] for index in (order[0], order[_DRAWS // 2], order[-1])]


def entries() -> Iterator[tuple[str, list[Tensor]]]:
    """Yield each degradation's name and pictures, without those that need user files."""
    images = subjects()
    for path in sorted(CONF.glob("*.yaml")):
        node: Any = OmegaConf.to_container(OmegaConf.load(path))
        if "???" not in path.read_text("utf-8"):
            yield path.stem, [picture for clean in images for picture in at_three_severities(node, clean)]


def draw() -> Image.Image:
    """Draw the gallery: a title and six pictures for each degradation, in two columns."""
    cells = list(entries())
    per_column = -(-len(cells) // _COLUMNS)
    width, height = 6 * (_CELL + _GAP) + 5 * _GAP, _TITLE + _CELL + 2 * _GAP
    sheet = Image.new("RGB", (_COLUMNS * width - 2 * _GAP, per_column * height), "white")
    pen = ImageDraw.Draw(sheet)
    for index, (name, pictures) in enumerate(cells):
        left, top = index // per_column * width, index % per_column * height
        pen.text((left + _GAP, top + 1), name, fill="black")
        for column, picture in enumerate(pictures):
            pixels = picture.expand(3, -1, -1).clamp(0, 1).mul(255).round().to(torch.uint8)
            image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
            x = left + _GAP + column * (_CELL + _GAP) + column // 3 * _GAP
            sheet.paste(image.resize((_CELL, _CELL), Image.Resampling.NEAREST), (x, top + _TITLE))
    return sheet


if __name__ == "__main__":
    # WebP, as a PNG of so many photographs would have 3 MB.
    buffer = BytesIO()
    draw().save(buffer, "WEBP", quality=75, method=6)
    write_bytes(Path(sys.argv[1]), buffer.getvalue())
