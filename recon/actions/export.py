"""`action=export run=<folder> format=<format>`: weights that travel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from recon.actions.base import Action
from recon.errors import InputError


class Export(Action):
    """Write trained weights in a format of other programs, each read back and compared first.

    Args:
        run: the folder of a run that restores.
        weights: or weights that come along, or a file of weights.
        format: see `recon.export.write.FORMATS`.
        output: the folder to write to, or None for one in the run folder.
        name: of the file of format=recon.
        int8: write an int8 form of ONNX too.
        figures: the run folders of evaluations whose figures the card states, or None for those of the run itself.
    """

    leaves_a_record = False
    imports_torch = False  # it is read from files, without Lightning where weights come along
    takes = ()

    def __init__(
        self,
        run: str | int | None,
        weights: str | None,
        format: str,
        output: str | None,
        name: str | None,
        int8: bool,
        figures: list[str] | str | None,
    ) -> None:
        if (run is None) == (weights is None):
            raise InputError("run: give the run to export, as run=last, or weights=<name>, and not both")
        self.run, self.weights, self.format, self.output = run, weights, format, output
        self.name, self.int8, self.figures = name, int8, figures

    def __call__(self, config: dict[str, Any], folder: Path, about: Mapping[str, Any]) -> None:
        """Write the files and say where they are."""
        from rich.console import Console

        from recon.export.write import FORMATS, files_of
        from recon.restore.plan import run_folder
        from recon.restore.weights import load_weights
        from recon.runs.files import in_words, write_bytes
        from recon.runs.folder import RunFolder

        if self.format not in FORMATS:
            raise InputError(f"format: {self.format!r} does not exist; choose one of {', '.join(FORMATS)}")
        run = None
        if self.weights is not None:
            weights = load_weights(self.weights)
        else:
            from recon.restore.of_run import weights_of_run

            run = run_folder(self.run or "")
            weights = weights_of_run(run, may_recognise=True)
        if self.name is not None:
            weights.name = self.name
        if self.figures is not None:
            from recon.restore.of_run import figures_of

            tests = [self.figures] if isinstance(self.figures, str) else self.figures
            figures = {key: row for test in tests for key, row in figures_of(RunFolder(run_folder(test))).items()}
            weights.about = replace(weights.about, figures=figures)
        target = (run or Path()) / f"export_{self.format}" if self.output is None else Path(self.output).expanduser()
        with Console(stderr=True).status(f"export: writing and reading back {self.format}"):
            files = files_of(weights, self.format, self.int8)
        for name, data in files.items():
            write_bytes(target / name, data)
            print(f"{target / name}: {in_words(len(data))}", flush=True)
