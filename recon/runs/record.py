"""The record of one run: what it was to do, where it ran, how it ended and what it measured."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf

from recon import runs
from recon.config.conf import command
from recon.config.words import quoted
from recon.console import say, show_gains, show_metrics
from recon.dashboards import threaded
from recon.dashboards.threaded import ThreadedLogger
from recon.errors import InputError, Interrupted
from recon.measures import ROWS, measure
from recon.metrics.per_image import Images
from recon.modules.base import Module
from recon.report.gains import Gain, gains
from recon.runs import files, machine
from recon.runs.checkpoint import sweep_up
from recon.runs.fingerprint import WITHOUT_EFFECT, code_version, data_version, fingerprint

# The beginnings of overrides that leave the numbers of an experiment as they are.
_KEPT_ALIKE = tuple(
    f"{key}{end}" for key in (*WITHOUT_EFFECT, "hydra", "model.judge", "model.loss.features") for end in "=./"
)


class Results(dict[str, float]):
    """The metrics of a run by name, such as "test/psnr".

    Attributes:
        images: which images were tested, by set; empty before the test.
        module: what was tested, or None.
    """

    images: Mapping[str, Images] = {}
    module: Module | None = None

    def describe(self, module: Module) -> None:
        """Note what the numbers are of: the module with its kind and measures, and the images that it was tested on."""
        self.module, self.images = module, module.images

    def show(self, config: Mapping[str, Any], overrides: Sequence[str]) -> None:
        """Print the table of all metrics, what the test gained over the degraded images, and what was expected.

        Args:
            config: the resolved configuration; its `expected` are the numbers of an experiment.
            overrides: those of the command line.
        """
        found: dict[str, list[Gain]] = {}
        hidden: set[str] = set()
        if self.module is not None:
            rows = self.module.rows
            columns = {name: column.cpu().numpy() for name, column in self.module.results.items()}
            for name, part in self.module.rows_by_set("test").items():
                found[_called(name)] = gains({key: column[part] for key, column in columns.items()}, rows)
            # What was before is in the table of gains, or says nothing where nothing is damaged.
            hidden = {row.before for row in rows.values() if row.before}
        expected = {name: value for name, value in config.get("expected", {}).items() if name in self}
        beside = {f"expected/{name.split('/', 1)[1]}": value for name, value in expected.items()}
        shown = {name: value for name, value in self.items() if name.split("/", 1)[1] not in hidden}
        show_metrics({**shown, **beside}, self.module.intervals if self.module is not None else {})
        for title, of_a_set in found.items():
            if of_a_set:
                show_gains(title, of_a_set)
        for name, value in expected.items():
            row = measure(name)
            differs = [word for word in overrides if not word.startswith(("experiment=", *_KEPT_ALIKE))]
            but = f"; this run differs by {' '.join(differs)}" if differs else ""
            say(
                f"expected: {row.label} {row.text(value, unit=True)} ({config['expected'].get('under')}), reached "
                f"{row.text(self[name], unit=True, like=value)}{but}"
            )

    def require_finite(self) -> None:
        """Raise InputError where images gave a result that is NaN or infinite: no number of the run can be used."""
        said = {f"{name}/not_finite": f" of {images.count} {_called(name)}" for name, images in self.images.items()}
        said["val/not_finite"] = " validation images"
        for name, which in said.items():
            if bad := self.get(name):
                raise InputError(
                    f"{bad:.0f}{which} gave a result that is not finite; lower optimizer.lr, or set "
                    "trainer.precision=32-true (per_image.csv of the run tells which)"
                )


def _called(name: str) -> str:
    """Name the images of a test by their set."""
    return "test images" if name == "test" else f"images of {name}"


@contextmanager
def recorded(
    folder: Path, config: Mapping[str, Any], about: Mapping[str, Any], loggers: Sequence[ThreadedLogger]
) -> Iterator[Results]:
    """Keep the record of a run around its work.

    Args:
        folder: the run folder.
        config: the resolved configuration, for `config.yaml`.
        about: what `environment.json` should say besides, such as the overrides.
        loggers: closed at the end, W&B with the exit code of the run.

    Yields:
        The metrics, empty: the work fills them.

    Raises:
        InputError: another process uses the folder, or it holds a run that this one does not resume; or
            images gave a result that is not finite, which is recorded nevertheless.
    """
    with _held(folder, bool(config.get("resume"))):
        record = _Record(folder, config, about)
        results = Results()
        try:
            yield results
            # Write the record first: a logger's server may hang.
            record.metrics(results)
            results.require_finite()
            record.end("ok")
        except BaseException as error:
            # Lightning turns Ctrl-C into SystemExit.
            interrupted = isinstance(error, Interrupted | KeyboardInterrupt | SystemExit)
            status = "interrupted" if interrupted else "failed"
            record.end(status, error=f"{type(error).__name__}: {error}")
            threaded.finish(loggers, results, status)
            if interrupted:
                say(f"resume with: {command()} {shlex.quote(f'resume={quoted(str(folder))}')}")
            if isinstance(error, SystemExit):
                raise Interrupted(signal.SIGINT) from error
            raise
    threaded.finish(loggers, results, "ok")
    results.show(config, about.get("overrides", ()))
    say(f"run: {folder}")


@contextmanager
def _held(folder: Path, resumed: bool) -> Iterator[None]:
    """Keep the folder for this run, in the first process: the others of the same run come to the same folder."""
    if getattr(rank_zero_only, "rank", 0) != 0:
        yield
        return
    with runs.locked(folder, "resume" if resumed else "hydra.run.dir"):
        if not resumed and (folder / "environment.json").exists():
            raise InputError(
                f"hydra.run.dir: {folder} holds a run already; resume it by resume={folder}, or choose another"
            )
        sweep_up(folder)
        yield


class _Record:
    """The files around the work; only the first process writes."""

    def __init__(self, folder: Path, config: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        self.folder = folder
        self.started = time.perf_counter()
        identity = {
            "fingerprint": fingerprint(config),
            "code": code_version(),
            "data": data_version(config),
        }
        self.environment = machine.environment(**{**identity, **about})
        self._write("config.yaml", OmegaConf.to_yaml(OmegaConf.create(dict(config))))
        self._write_json("environment.json", self.environment)

    def metrics(self, results: Results) -> None:
        rows = results.module.rows if results.module else ROWS
        recorded = {key.split("/", 1)[1]: measure(key, rows) for key in results}
        about: dict[str, Any] = {
            "convention": {name: row.convention for name, row in recorded.items() if row.convention},
            "measures": {name: row.record() for name, row in recorded.items()},
        }
        if (one := results.images.get("test")) is not None:
            about["images"] = asdict(one)
        elif results.images:
            about["sets"] = {name: asdict(images) for name, images in results.images.items()}
        if results.module is not None:
            about["kind"] = results.module.kind
            if results.module.intervals:
                about["intervals"] = results.module.intervals
            if results.module.class_names:
                about["classes"] = list(results.module.class_names)
        self._write_json("metrics.json", {**results, **about})

    def end(self, status: str, **more: str) -> None:
        seconds = round(self.environment.get("seconds", 0.0) + time.perf_counter() - self.started, 3)
        self._write_json("environment.json", {**self.environment, "status": status, "seconds": seconds, **more})

    @rank_zero_only
    def _write(self, name: str, text: str) -> None:
        files.write_text(self.folder / name, text)

    @rank_zero_only
    def _write_json(self, name: str, content: Any) -> None:
        files.write_json(self.folder / name, content)
