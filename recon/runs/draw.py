"""Drawings of a run folder: grids of images and confusion matrices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


def grid(columns: Mapping[str, Tensor]) -> Image:
    """Draw a grid of images: a row for each sample, a headed column for each kind.

    Args:
        columns: (B,C,H,W) each, C = 1 or 3 (others show their first channel), values in [0,1] (clamped).
    """
    from PIL import Image, ImageDraw

    sample = next(iter(columns.values()))
    height, width = sample.shape[-2:]
    # Small images are enlarged to be looked at; the header is the height of Pillow's built-in font.
    zoom, gap, header = max(1, -(-96 // max(height, width))), 4, 14
    cell_height, cell_width = height * zoom + gap, width * zoom + gap
    sheet = Image.new("RGB", (len(columns) * cell_width + gap, len(sample) * cell_height + header + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for column, (name, images) in enumerate(columns.items()):
        left = gap + column * cell_width
        draw.text((left, 1), name, fill="black")
        for row, image in enumerate(pixels(images).numpy()):
            enlarged = Image.fromarray(image).resize((width * zoom, height * zoom), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (left, header + row * cell_height))
    return sheet


def pixels(images: Tensor) -> Tensor:
    """Turn images (B,C,H,W) into (B,H,W,3) uint8 on the CPU; C = 1 or 3, of others the first channel is shown."""
    import torch

    shown = images if images.shape[1] == 3 else images[:, :1].expand(-1, 3, -1, -1)
    levels = shown.detach().float().cpu().nan_to_num().clamp(0, 1).mul(255).round().to(torch.uint8)
    return levels.permute(0, 2, 3, 1)


def heatmap(table: Tensor) -> Image:
    """Draw a confusion matrix: a row for each true class, a column for each predicted one, darker for more.

    Args:
        table: (K,K) int64 counts; each row is shaded by its own share.
    """
    from PIL import Image, ImageDraw

    cell, margin = 40, 56
    side = margin + cell * len(table)
    sheet = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((4, 4), "truth \\ seen as", fill="black")
    share = table.double() / table.sum(1, keepdim=True).clamp(min=1)
    for row, counts in enumerate(table.tolist()):
        top = margin + cell * row
        draw.text((margin - 14, top + 14), str(row), fill="black", anchor="ra")
        draw.text((top + 20, margin - 16), str(row), fill="black", anchor="ma")
        for column, count in enumerate(counts):
            left, light = margin + cell * column, round(255 * (1 - float(share[row, column]) ** 0.5))
            draw.rectangle((left, top, left + cell - 2, top + cell - 2), fill=(light, light, 255))
            if count:
                draw.text((left + 19, top + 14), str(count), fill="black" if light > 110 else "white", anchor="ma")
    return sheet
