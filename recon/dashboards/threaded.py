"""Where the numbers and images are mirrored: W&B, TensorBoard, CSV or nowhere. The run folder is the truth.

Nothing a dashboard does reaches the run: every call is handed to a thread of its own, in which it may fail or hang.
The first that does ends the logging with one line; the run continues.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from recon.config.check import check_node, hints_of
from recon.config.construct import find_class
from recon.console import say
from recon.dashboards.base import About, Dashboard
from recon.errors import InputError
from recon.runs import RunFolder, tiles
from recon.runs.files import write_image

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

_SHARED: dict[str, Any] = {**dict.fromkeys(("project", "group", "name"), str | None), "tags": list[str]}


def make(node: Mapping[str, Any], folder: Path, config: Mapping[str, Any]) -> list[ThreadedLogger]:
    """Make the loggers that the user chose; in the folder of an earlier run they continue what that one logged.

    Args:
        node: the node `logger` of the configuration; its `_target_` is that of one dashboard, a list of several, or
            null.
        folder: the run folder, where dashboards keep their files.
        config: the resolved configuration, for dashboards.

    Raises:
        InputError: a wrong key, or what a dashboard needs is not installed.
    """
    settings = {key: value for key, value in node.items() if key != "_target_"}
    targets = node.get("_target_")
    targets = targets if isinstance(targets, list) else [targets]
    kinds: list[type[Dashboard]] = [find_class(target, "logger") for target in targets if target is not None]
    own = {kind: {key: hint for key, hint in hints_of(kind).items() if key != "about"} for kind in kinds}
    check_node(settings, dict(ChainMap(_SHARED, *own.values())), "logger")
    about = About(folder, config, **{key: settings[key] for key in _SHARED})
    made = []
    for kind in dict.fromkeys(kinds):
        if (chosen := kind.chosen()) is None:
            continue
        if chosen.package and find_spec(chosen.package) is None:
            raise InputError(
                f"logger: {chosen.title} is not installed; pip install {chosen.install}, or choose logger=none"
            )
        start = partial(chosen, about, **{key: settings[key] for key in own[kind] if key in settings})
        made.append(ThreadedLogger(chosen.title, folder, start, chosen.abandon))
    return made


class ThreadedLogger(Logger):
    """A Lightning logger that returns at once from every call; a thread passes the calls on to a dashboard.

    The thread starts with the first call, so that a run that is refused leaves nothing behind. Only the first process
    of a run logs.

    Args:
        title: the dashboard's name, for messages.
        folder: the run folder.
        opens: makes the dashboard; called in the thread, as it may wait for a server.
        abandon: lets go of it, also while it is being made.
    """

    patience = 60.0  # seconds that one call may take
    last_patience = 40.0  # seconds that the end of a run waits for the last calls; W&B itself gives up after 30

    def __init__(self, title: str, folder: Path, opens: Callable[[], Dashboard], abandon: Callable[[], None]) -> None:
        super().__init__()
        self.title = title
        self.folder = folder
        self._opens = opens
        self._abandon = abandon
        self._dashboard: Dashboard | None = None
        self._calls: queue.SimpleQueue[tuple[str, tuple[Any, ...]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._began: float | None = None  # when the call that the thread is at began
        self._off = False
        self._step = 0

    # What Lightning asks for ---------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """No folder of its own."""
        return ""

    @property
    def version(self) -> str:
        """No folder of its own."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.folder)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The dashboard has the configuration already."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Show numbers."""
        self.send("scalars", dict(metrics), self._at(step))

    def finalize(self, status: str) -> None:
        """Lightning says this after each of fit, validate and test; `finish` is the end."""

    # What recon asks for -------------------------------------------------------------------------------------------

    @rank_zero_only
    def send(self, method: str, *arguments: Any) -> None:
        """Have the thread call a method of the dashboard; this never fails and never waits."""
        if self._off:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"{self.title} logger", daemon=True)
            self._began = time.monotonic()
            self._thread.start()
        if self._began is not None and time.monotonic() - self._began > self.patience:
            self._give_up(f"no answer for {self.patience:.0f} s")
            return
        self._calls.put((method, arguments))

    def close(self, metrics: Mapping[str, float], status: str) -> None:
        """Wait a while for the last calls, then end."""
        self.send("close", dict(metrics), status)
        self._calls.put(None)
        if self._thread is None:
            return
        try:
            self._thread.join(2)
            if self._thread.is_alive() and not self._off:
                worth_it = self._dashboard is None or self._dashboard.answers()
                patience = self.last_patience if worth_it else 3.0
                say(f"logger: {self.title} is being given the last of it, for {patience:.0f} s at most")
                self._thread.join(patience)
        finally:
            if self._thread.is_alive():
                self._give_up("it did not take the last of it in time")

    def _at(self, step: int | None) -> int:
        """The training step to log at: Lightning's own steps are one behind recon's, and dashboards go forward only."""
        self._step = max(self._step, step or 0)
        return self._step

    def _work(self) -> None:
        try:
            self._dashboard = self._opens()
            self._began = None
            while (call := self._calls.get()) is not None and not self._off:
                method, arguments = call
                self._began = time.monotonic()
                getattr(self._dashboard, method)(*arguments)
                self._began = None
        except BaseException as error:  # whatever it is, it ends in this thread
            self._give_up(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}".rstrip(".: "))

    def _give_up(self, reason: str) -> None:
        if self._off:
            return
        self._off = True
        say(f"logger: {self.title} failed ({reason}); the run continues without it; everything is in {self.folder}")
        letting_go = threading.Thread(target=self._let_go, daemon=True)
        letting_go.start()
        letting_go.join(2)

    def _let_go(self) -> None:
        with contextlib.suppress(BaseException):  # wandb ends its process with SystemExit
            self._abandon()


def log_image(logger: Logger, name: str, image: Image, step: int) -> None:
    """Show a picture."""
    if isinstance(logger, ThreadedLogger):
        logger.send("image", name, image, logger._at(step))


def log_results(
    logger: Logger, columns: Mapping[str, Tensor], samples: tiles.Arrays, classes: Sequence[str], step: int
) -> None:
    """Show the table of a test.

    Args:
        logger: of the run.
        columns: (N,) each, a value for each test image.
        samples: pictures of the first B of them.
        classes: the names of the classes, or none.
        step: the training step.
    """
    if isinstance(logger, ThreadedLogger):
        logger.send("results", dict(columns), tiles.columns(samples), list(classes), logger._at(step))


def log_after(node: Mapping[str, Any], folder: Path, pictures: Mapping[str, Image]) -> None:
    """Show pictures that were made of a run after its end, in the dashboards of the command line as part of that run.

    Their step is later than all that was logged of the run before: W&B's server takes a step once, and TensorBoard
    forgets what an earlier process logged from the step on at which another begins.

    Args:
        node: the node `logger` of the configuration.
        folder: the run folder.
        pictures: by their names.
    """
    run = RunFolder(folder)
    recorded = run.config.get("logger")
    own = recorded if isinstance(recorded, dict) else {}
    shared = {key: node.get(key) or own.get(key) or node.get(key) for key in _SHARED}
    loggers = make({**node, **shared}, folder, run.config)
    times = len([*folder.glob("tensorboard/events.*"), *folder.glob("wandb/*run-*-*")])
    for logger in loggers:
        for name, picture in pictures.items():
            log_image(logger, f"images/{name}", picture, run.steps + 1 + times)
    finish(loggers, {}, run.status)


def keep_after(node: Mapping[str, Any], folder: Path, pictures: Mapping[str, Image]) -> None:
    """Write pictures that were made of a run after its end into its folder, for the report, and show them.

    Args:
        node: see `log_after`.
        folder: the run folder; where it may only be read, they are shown alone.
        pictures: by their names, which those of the files are.
    """
    if os.access(folder, os.W_OK):
        for name, picture in pictures.items():
            write_image(folder / f"{name}.png", picture)
    log_after(node, folder, pictures)


@rank_zero_only
def finish(loggers: Iterable[ThreadedLogger], metrics: Mapping[str, float], status: str) -> None:
    """Close loggers with the run's metrics and "ok", "failed" or "interrupted"; W&B makes an exit code of it."""
    for logger in loggers:
        logger.close(metrics, status)
