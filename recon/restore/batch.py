"""Many pictures, one after the other: a bad one does not stop the others, and what is done is not done again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
from PIL import Image

from recon.errors import InputError
from recon.restore.mend import Done
from recon.restore.one import made, settings_of
from recon.restore.outputs import Job, is_done, sha256, was_made
from recon.restore.picture import Picture, read_file
from recon.restore.plan import Wishes
from recon.runs.files import write_bytes, write_image, write_json
from recon.streams import printable

_STRIP = 1200  # pixels: the width of each half of a comparison


@dataclass(frozen=True)
class Writing:
    """How the results are written.

    Attributes:
        quality: of lossy files, or None.
        in_place: the picture is replaced, and kept beside it.
        compare: write a strip of before and after.
        embed: write what was done into the file too, where it is a PNG.
        copies: write a picture that is left as it is too.
    """

    quality: int | None = None
    in_place: bool = False
    compare: bool = False
    embed: bool = False
    copies: bool = True


def restore_all(jobs: Sequence[Job], wishes: Wishes, writing: Writing) -> list[str]:
    """Restore pictures and say a line about each; returns what failed, a sentence for each."""
    failed = []
    with _Bar(len(jobs)) as bar:
        for job in jobs:
            try:
                bar.say(f"{job.source}: {_restore(job, wishes, writing, bar)}")
            except Exception as error:  # whatever a hostile file or a lack of memory raises, the others are done
                sentence = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
                failed.append(sentence if sentence.startswith(str(job.source)) else f"{job.source}: {sentence}")
                bar.say(f"{job.source}: failed")
    return failed


def _restore(job: Job, wishes: Wishes, writing: Writing, bar: _Bar) -> str:
    """Restore one picture; returns what was done."""
    started = time.monotonic()
    original = job.beside("original", job.source.suffix)
    source = original if writing.in_place and original.is_file() else job.source
    data = read_file(source)
    if is_done(job, sha256(data), settings_of(wishes, writing.quality, writing.embed)):
        return "done before"
    warnings = ["it was restored before"] if source == job.source and was_made(source) else []
    kept_as = original if writing.in_place else source

    def watch(picture: Picture) -> AbstractContextManager[Done]:
        return bar.picture(picture, wishes.settings.ensemble)

    result = made(data, kept_as, job.target, wishes, writing.quality, writing.embed, watch)
    words = [*warnings, result.plan.seen, result.plan.why, *result.before.notes]
    if result.after is None and not (writing.copies or source == original):
        return ", ".join(filter(None, words))
    if writing.in_place and source != original:
        write_bytes(original, data)
    write_bytes(job.target, result.written)
    seconds = time.monotonic() - started
    write_json(job.sidecar, {**result.record, "seconds": seconds})
    if result.plan.hole is not None and wishes.scratches:
        write_image(job.beside("mask", ".png"), Image.fromarray(result.plan.hole))
    if writing.compare and result.after is not None:
        write_image(job.beside("compare", ".png"), _strip(result.before, result.after))
    return ", ".join(filter(None, [*words, f"{seconds:.1f} s"])) + ("" if writing.in_place else f" -> {job.target}")


def _strip(before: Picture, after: Picture) -> Image.Image:
    """Return both pictures side by side in 8 bits, each at most 1200 pixels wide."""
    halves = []
    for picture in (before, after):
        values = picture.values if picture.white == 255 else (picture.values >> 8).astype(np.uint8)
        mode = {1: "L", 3: "RGB", 4: "CMYK"}[values.shape[2]]
        height, width = values.shape[:2]
        halves.append(Image.frombytes(mode, (width, height), np.ascontiguousarray(values).tobytes()).convert("RGB"))
    width = min(_STRIP, halves[0].width)
    size = width, max(1, round(halves[0].height * width / halves[0].width))
    strip = Image.new("RGB", (2 * width + 8, size[1]), "white")
    for index, half in enumerate(halves):
        strip.paste(half.resize(size, Image.Resampling.LANCZOS), (index * (width + 8), 0))
    return strip


class _Bar:
    """A progress bar in megapixels a second, shown on a terminal when the work takes over two seconds."""

    def __init__(self, pictures: int) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.pictures, self.finished = pictures, 0
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[speed]}"), TimeRemainingColumn(),
            transient=True,
        )  # fmt: skip
        self.bar = self.progress.add_task("", total=None, speed="")

    def __enter__(self) -> _Bar:
        self.started = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        if self.progress.live.is_started:
            self.progress.stop()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self.finished += 1
        # Not wrapped, as a path may be copied.
        self.progress.console.print(printable(line), soft_wrap=True, markup=False, highlight=False)

    def picture(self, picture: Picture, passes: int) -> AbstractContextManager[Done]:
        """Return a context whose value is called with the pixels that are done."""
        pixels = passes * picture.values.shape[0] * picture.values.shape[1]
        name = f"{self.finished + 1}/{self.pictures}"
        self.progress.reset(self.bar, total=pixels, description=name, speed="")
        begun, count = time.monotonic(), 0

        def done(more: int) -> None:
            nonlocal count
            count += more
            late = time.monotonic() - self.started > 2 and self.progress.console.is_terminal
            if late and not self.progress.live.is_started:
                self.progress.start()
            speed = f"{count / 1e6 / max(1e-6, time.monotonic() - begun):.2f} megapixels/s"
            self.progress.update(self.bar, completed=count, speed=speed)

        return nullcontext(done)
