"""Draw test images of run folders, one below the other: `python docs/pictures.py <picture> <run>[:<rows>] ...`.

The rows, such as `:0,3,5`, are those of the run's first eight test images; without them all are drawn. The pictures of
docs/gallery.md and of the README are made so.
"""

import sys
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial import KDTree

from recon.report.run import Run
from recon.runs import RunFolder
from recon.runs.draw import grid, words
from recon.runs.files import write_image
from recon.runs.tiles import colour_bar

LARGEST = 200_000  # bytes of a picture of a page
# Of letters, frames and checkerboards.
_DRAWN = np.array([(0, 0, 0), (90, 90, 90), (180, 180, 180), (255, 255, 255), (255, 200, 0)])


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


def small(picture: Image.Image) -> Image.Image:
    """Reduce a picture of noisy photographs to 256 colours, where its file would be too large for a page."""
    data = BytesIO()
    picture.save(data, format="PNG")
    if data.tell() <= LARGEST:
        return picture
    own = np.concatenate([colour_bar(33, 1)[0], _DRAWN])
    photographs = picture.quantize(256 - len(own)).getpalette() or []
    palette = np.concatenate([own, np.reshape(photographs, (-1, 3))])
    # Pillow takes only roughly the nearest colour, which turns white into another.
    reduced = Image.fromarray(KDTree(palette).query(np.asarray(picture))[1].astype(np.uint8), "P")
    reduced.putpalette(palette.astype(np.uint8).ravel().tolist())
    return reduced


if __name__ == "__main__":
    write_image(Path(sys.argv[1]), small(stacked([drawn(run) for run in sys.argv[2:]])))
