"""Draw test images of run folders, one below the other: `python docs/pictures.py <picture> <run>[:<rows>] ...`.

The rows, such as `:0,3,5`, are those of the run's first eight test images; without them all are drawn. The pictures of
docs/gallery.md and of the README are made so.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from recon.report.run import Run
from recon.runs import RunFolder
from recon.runs.draw import grid, words
from recon.runs.files import write_image


def drawn(run: str) -> Image.Image:
    """Draw test images of a run, such as "outputs/<day>/<run>:0,3"; raises SystemExit where there are none."""
    folder, _, rows = run.partition(":")
    shown = Run(RunFolder(Path(folder)), folder)
    arrays = shown.pictures("samples")
    if not arrays:
        raise SystemExit(f"{folder} holds no images/samples.npz: give the folder of a run that was tested")
    wanted = list(map(int, rows.split(","))) if rows else list(range(len(arrays["index"])))
    chosen = {name: array[wanted] for name, array in arrays.items()}
    return grid(chosen, words(chosen, shown.images, shown.folder.measures, shown.folder.classes))


def stacked(pictures: list[Image.Image]) -> Image.Image:
    """Put pictures below each other."""
    sheet = Image.new("RGB", (max(each.width for each in pictures), sum(each.height for each in pictures)), "white")
    for picture, top in zip(pictures, np.cumsum([0, *(each.height for each in pictures)]), strict=False):
        sheet.paste(picture, (0, int(top)))
    return sheet


if __name__ == "__main__":
    write_image(Path(sys.argv[1]), stacked([drawn(run) for run in sys.argv[2:]]))
