"""Weights & Biases, offline where there is no key or no server."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.console import say
from recon.dashboards.base import About, Dashboard
from recon.runs import action_of
from recon.runs.files import write_text

if TYPE_CHECKING:
    import numpy
    from PIL.Image import Image
    from torch import Tensor


class WandB(Dashboard):
    """A W&B run: as WANDB_MODE says, else online with a key and a server that answers, else offline.

    An offline run holds all that an online one does; `wandb sync` uploads it. A run folder is one W&B run, however
    often it is resumed: its id is in `wandb/id`. What an earlier process logged after the checkpoint is logged again
    with the same steps and values, because a kill may have kept it from the disk; the server takes each step once.
    W&B's own variables (WANDB_PROJECT, WANDB_DIR, ...) count unless the key was given a value.
    """

    title = "W&B"
    package = "wandb"
    install = "wandb"

    most_rows = 2000  # of the table of test images, which costs W&B 0.1 s for 1 000; `per_image.csv` has all

    def __init__(self, about: About) -> None:
        # W&B's reports of its own faults would wait, and complain, where its server does not answer.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self.folder = about.folder
        self.id = run_id(about.folder)
        mode = os.environ.get("WANDB_MODE")
        if mode is None:
            reason = "there is no key" if not logged_in() else unreachable(_base_url())
            mode = "offline" if reason else "online"
            if reason:
                self._say_offline(reason)
        elif mode in ("offline", "dryrun"):
            self._say_offline(f"WANDB_MODE={mode} says so")
        try:
            self.run = self._start(about, mode)
        except Exception as error:
            if mode in ("offline", "dryrun", "disabled"):
                raise
            self._say_offline(" ".join(str(error).split("{")[0].split()).rstrip(".: ")[:200])
            wandb.teardown()  # the service still holds the run's id
            mode = "offline"
            self.run = self._start(about, mode)
        self.online = mode not in ("offline", "dryrun", "disabled")

    def _say_offline(self, reason: str) -> None:
        # Only a folder of the user's holds other runs too.
        own = os.environ.get("WANDB_DIR")
        runs = f"{own}/wandb/offline-run-*-{self.id}" if own else f"{self.folder}/wandb/offline-run-*"
        say(f"logger: W&B is offline, as {reason}; upload later with: wandb sync {runs}")

    def _start(self, about: About, mode: Any) -> Any:
        import wandb

        # W&B Launch's inputs: recon has none, and to look for them imports what takes 1 s.
        wandb.Run._detect_and_apply_job_inputs = lambda run: None  # type: ignore[method-assign,assignment]
        settings = _unless_in_environment(
            init_timeout=15,
            finish_timeout=30,
            silent=True,
            console="off",  # a service that dies must not take print() along
            x_disable_stats=mode != "online",
            x_save_requirements=False,  # environment.json says what is installed
            x_transaction_log_flush_interval=1,  # seconds that a kill may lose
        )
        otherwise = _unless_in_environment(
            project="recon",
            name=about.folder.name,
            job_type=action_of(about.config),
            dir=about.folder,
            resume="allow",
        )
        given = {"project": about.project, "group": about.group, "name": about.name, "tags": about.tags}
        return wandb.init(
            config=dict(about.config),
            allow_val_change=True,
            id=self.id,
            mode=mode,
            settings=wandb.Settings(**settings),
            **{**otherwise, **{key: value for key, value in given.items() if value}},
        )

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Add a point to each curve; what has the same step becomes one row."""
        self.run.log(dict(values), step=step)

    def image(self, name: str, image: Image, step: int) -> None:
        """Add a picture."""
        import wandb

        self.run.log({name: wandb.Image(image)}, step=step)

    def results(
        self,
        columns: Mapping[str, Tensor],
        samples: Mapping[str, Sequence[numpy.ndarray]],
        classes: Sequence[str],
        step: int,
    ) -> None:
        """Add the table of test images, the first ones with their pictures, and the chart of the confusion matrix."""
        import wandb

        lists = {name: column.tolist() for name, column in columns.items()}
        for name in ("prediction", "label"):
            if name in lists:
                lists[name] = [int(value) for value in lists[name]]
        count = min(len(lists["index"]), self.most_rows)
        pictures = {
            name: [*map(wandb.Image, images[:count]), *[None] * (count - len(images))]
            for name, images in samples.items()
        }
        cells = [values[:count] for values in lists.values()]
        rows = list(map(list, zip(*cells, *pictures.values(), strict=True)))
        # The types of the columns are those of the first rows: W&B would look at every cell.
        first = 1 + max(map(len, samples.values()), default=0)
        table = wandb.Table(columns=[*lists, *pictures], data=rows[:first])
        table.data += rows[first:]
        shown: dict[str, Any] = {"test/per_image": table}
        if "prediction" in lists:
            names = classes or list(map(str, range(1 + max(*lists["label"], *lists["prediction"]))))
            shown["test/confusion"] = wandb.plot.confusion_matrix(
                y_true=lists["label"], preds=lists["prediction"], class_names=list(names)
            )
        with self._staged_in_the_folder():
            self.run.log(shown, step=step)

    @contextmanager
    def _staged_in_the_folder(self) -> Iterator[None]:
        """Keep the pictures of tables in the run folder until they are uploaded; W&B would in the home folder."""
        if os.environ.get("WANDB_DATA_DIR"):
            yield
            return
        os.environ["WANDB_DATA_DIR"] = str(self.folder / "wandb" / "staging")
        try:
            yield
        finally:
            del os.environ["WANDB_DATA_DIR"]

    def close(self, metrics: Mapping[str, float], status: str) -> None:
        """End with the run's metrics as the summary and its exit code."""
        import wandb

        self.run.summary.update({**metrics, "status": status})
        self.run.finish(exit_code=int(status != "ok"))
        wandb.teardown()

    @staticmethod
    def abandon() -> None:
        """End W&B's service process, for which wandb would wait at the end without limit."""
        import wandb
        from wandb.sdk.lib import module

        service: Any = wandb.setup().assert_service()
        service._cleanup()  # takes back what wandb would do at exit
        service._proc._process.kill()
        module.unset_globals()  # type: ignore[no-untyped-call]
        wandb.teardown()  # fails, the service being gone, but forgets it first

    def answers(self) -> bool:
        """Is this offline, or is the server there?"""
        return not self.online or unreachable(_base_url()) is None


class Auto(Dashboard):
    """W&B when there is a key or WANDB_MODE is set, but not to "disabled"; otherwise nothing."""

    title = "W&B"

    @classmethod
    def chosen(cls) -> type[Dashboard] | None:
        """Choose, and say which."""
        mode = os.environ.get("WANDB_MODE")
        is_wanted = mode != "disabled" and (bool(mode) or logged_in())
        say(f"logger: {'wandb' if is_wanted else 'none'} (logger=wandb|tensorboard|csv|none chooses)")
        return WandB if is_wanted else None


def _unless_in_environment(**settings: Any) -> dict[str, Any]:
    """Leave out what a variable of W&B's says."""
    return {key: value for key, value in settings.items() if not os.environ.get(f"WANDB_{key.upper()}")}


def run_id(folder: Path) -> str:
    """Return the id of a run folder's W&B run, which never changes."""
    path = folder / "wandb" / "id"
    if not path.exists():
        write_text(path, os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4))
    return path.read_text("utf-8").strip()


def unreachable(url: str, seconds: float = 3) -> str | None:
    """Return why a server does not answer; None when it does, be it with an error."""
    from urllib.error import HTTPError, URLError
    from urllib.request import urlopen

    try:
        urlopen(url, timeout=seconds).close()
    except HTTPError as error:
        error.close()
    except (OSError, URLError, ValueError) as error:
        return f"{url} does not answer ({getattr(error, 'reason', error)})"
    return None


def logged_in() -> bool:
    """Is there a W&B key in the environment or in the file that `wandb login` writes?"""
    if os.environ.get("WANDB_API_KEY"):
        return True
    import netrc
    from urllib.parse import urlparse

    host = urlparse(_base_url()).hostname or ""
    try:
        known = netrc.netrc(os.environ.get("NETRC") or os.path.expanduser("~/.netrc")).hosts
    except (OSError, netrc.NetrcParseError):
        return False
    return host in known or "api.wandb.ai" in known or "api.forge.coreweave.com" in known


def _base_url() -> str:
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
