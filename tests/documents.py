"""What README and docs show to be typed, and the folder of a reader who has what they presuppose."""

import re
import shlex
import shutil
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from conftest import QUICK, ROOT
from PIL import Image
from report_runs import carry_out, change_json
from skimage import data
from sklearn.datasets import load_digits

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "outputs" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
# Words by which a page means a run, and the run of `brought` that stands for it.
PLACEHOLDERS = {
    "<classifier run>": "outputs/judge",
    "<generator run>": "outputs/gan",
    "<run>,<run>": "one,two",
    "outputs/<day>/<run>": "outputs/one",
    "<run>": "one",
    "<folder>": "one",
}


class Shown(NamedTuple):
    """A command of recon: its page and its words behind `python run.py`."""

    page: Path
    words: list[str]

    def __str__(self) -> str:
        return f"{self.page.name}: {shlex.join(self.words)}"


def blocks(page: Path, language: str) -> list[str]:
    """The blocks of code of a page in a language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.S)


def commands(page: Path) -> list[Shown]:
    """Every command of a page: in blocks of bash, in the text, in cells of tables without `python run.py`."""
    lines = "".join(blocks(page, "bash")).splitlines()
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    lines += re.findall(r"`((?:python run\.py|recon) [^`…]*)`", text)
    lines += [f"recon {cell}" for cell in re.findall(r"^\|(?:[^`]*\|)? `((?:-m )?\w+=[^`…]*)`", text, re.M)]
    return in_block(page, "\n".join(dict.fromkeys(lines)))


def first_shown(pages: Iterable[Path]) -> list[Shown]:
    """The commands of pages, each where it comes first."""
    found: dict[tuple[str, ...], Shown] = {}
    for command in (command for page in pages for command in commands(page)):
        found.setdefault(tuple(command.words), command)
    return list(found.values())


def in_block(page: Path, block: str) -> list[Shown]:
    """The commands of recon in a block of bash."""
    found = []
    for line in block.splitlines():
        words = shlex.split(filled(line), comments=True)
        start = next((index for index, word in enumerate(words) if word in ("run.py", "recon")), None)
        if start is not None:
            found.append(Shown(page, words[start + 1 :]))
    return found


def filled(text: str) -> str:
    """Put the runs of `bring` where a page leaves a place for one; a judge must know the images."""
    for place, name in PLACEHOLDERS.items():
        text = text.replace(place, f"{name}28" if "judge" in name and "mnist" in text else name)
    return text


def bring(place: Path) -> None:
    """Make a folder hold what a reader has: photographs at home, masks, pairs, shards, trained models."""
    home = place / "home"
    photos = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]
    tiles = [photo[y : y + 96, x : x + 112] for photo in photos for y in (40, 140) for x in (20, 160)]
    for number, tile in enumerate(tiles):
        for folder in ("photos", "damaged", "masks"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(tile).save(home / "photos" / f"{number:02d}.png")
        Image.fromarray(tile // 2).save(home / "damaged" / f"{number:02d}.png")
    mask = np.zeros((96, 112), np.uint8)
    mask[30:60, 20:90] = 255
    Image.fromarray(mask).save(home / "masks" / "scratch.png")
    Image.fromarray(mask).save(place / "mask.png")
    for picture in ("photo.jpg", "scans/photo.jpg", "album/2024/photo.jpg"):
        (place / picture).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(tiles[0]).save(place / picture)
    (place / "examples").mkdir()
    shutil.copy(ROOT / "examples" / "photo.jpg", place / "examples")
    (place / "shards").mkdir()
    for number in range(10):
        with tarfile.open(place / "shards" / f"train-{number:03d}.tar", "w") as shard:
            for path in sorted((home / "photos").iterdir()):
                shard.add(path, f"{number}{path.name}")
    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images[:120], digits.target[:120], strict=True)):
        (home / "digits" / str(label)).mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray((image * 15).astype("uint8")).resize((28, 28))
        picture.save(home / "digits" / str(label) / f"{number}.png")
    picture.save(place / "digit.png")
    quick = [word for word in QUICK if "max_steps" not in word]
    for name, words in {
        "judge": ["model=classifier"],
        "judge28": ["model=classifier", "task=folder", f"task.path={home}/digits"],
        "two": ["model=restoration", "task=folder", f"task.path={home}/photos", "task.crop=32"],
        "gan": ["model=gan"],
        "one": ["model=restoration"],
    }.items():
        assert carry_out(place / "outputs" / name, *words, "trainer.max_steps=2", *quick) == 0
    change_json(place / "outputs" / "one" / "environment.json", lambda record: record.update(status="interrupted"))


def shown_files(page: Path) -> dict[str, str]:
    """The files that a page shows: each a block of code behind its name and a colon."""
    return dict(re.findall(r"^`([\w/.]+)`[^`]*:\n\n```\w+\n(.*?)```", page.read_text(), re.S | re.M))
