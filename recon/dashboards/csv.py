"""A table of every logged step."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recon.dashboards.base import About, Dashboard
from recon.runs.files import write_csv

if TYPE_CHECKING:
    pass


class CSV(Dashboard):
    """All that was logged, one row a call, in `csv/metrics.csv`; a resumed run continues the same table."""

    title = "CSV"
    seconds_between_writes = 10.0

    def __init__(self, about: About) -> None:
        self.path = about.folder / "csv" / "metrics.csv"
        self.rows: list[dict[str, Any]] = []
        self._first = True
        self._written = time.monotonic()

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Add a row."""
        if self._first and self.path.exists():
            # Steps after the checkpoint that this process resumed from are done again.
            with open(self.path, newline="", encoding="utf-8") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["step"]) < step]
        self._first = False
        self.rows.append({"step": step, **values})
        if time.monotonic() - self._written > self.seconds_between_writes:
            self._write()

    def close(self, metrics: Mapping[str, float], status: str) -> None:
        """Write what is left."""
        if self.rows:
            self._write()

    def _write(self) -> None:
        write_csv(self.path, self.rows)
        self._written = time.monotonic()
