"""The jobs of a sweep: Hydra composes each, and they are collected here before the first one starts."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.actions.base import kind_of
from recon.config.recorded import with_words_of_the_run
from recon.errors import InputError
from recon.runs import action_of
from recon.runs.fingerprint import fingerprint

if TYPE_CHECKING:
    from hydra.conf import HydraConf
    from omegaconf import DictConfig

# The choices of hydra/launcher= that run each job in a process of its own.
LAUNCHERS = ("parallel", "submitit")


@dataclass
class Job:
    """One run of a sweep.

    Args:
        number: its place in the sweep.
        overrides: what makes it, without what concerns the sweep alone.
        varied: those of them that differ between the jobs.
        config: the resolved configuration.
        folder: its run folder.
        status: "waiting", "running", "ok", "failed", "killed", "pruned" or "interrupted".
        error: why it failed.
        attempts: how often it was started.
        seconds: how long the last attempt took.
        batch: what SLURM calls it.
    """

    number: int
    overrides: list[str]
    varied: list[str]
    config: dict[str, Any]
    folder: Path = Path()
    status: str = "waiting"
    error: str | None = None
    attempts: int = 0
    seconds: float = 0.0
    batch: str | None = None
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        self.fingerprint = fingerprint(self.config)

    @property
    def name(self) -> str:
        """What varies, such as "model-gan_seed-1"."""
        return re.sub(r"[^\w.-]+", "-", "_".join(self.varied)).strip("-")[:120] or "job"

    @property
    def label(self) -> str:
        """What varies, as it is typed."""
        return " ".join(self.varied) or "job"


def flags_of(arguments: Sequence[str]) -> list[str]:
    """Return the flags of a typed command line that say where Hydra finds its configuration, as each job needs them."""
    from hydra._internal.utils import get_args_parser

    typed = get_args_parser().parse_args(list(arguments))
    given = {"--config-dir": typed.config_dir, "--config-name": typed.config_name, "--config-path": typed.config_path}
    return [word for flag, value in given.items() if value is not None for word in (flag, str(value))]


@dataclass
class Collected:
    """What Hydra composed of one command line.

    Args:
        launcher: the choice of `hydra/launcher`.
        folder: the sweep's folder.
        sweep: the node of the configuration.
        flags: where Hydra finds its configuration, as typed.
        overrides: of each job.
        configs: of each job, resolved.
    """

    launcher: str
    folder: Path
    sweep: dict[str, Any]
    flags: list[str] = field(default_factory=list)
    overrides: list[list[str]] = field(default_factory=list)
    configs: list[dict[str, Any]] = field(default_factory=list)

    def jobs(self) -> list[Job]:
        """The jobs, those that are the same once."""
        shared = set.intersection(*map(set, self.overrides))
        found: dict[str, Job] = {}
        for overrides, config in zip(self.overrides, self.configs, strict=True):
            varied = [override for override in overrides if override not in shared]
            job = Job(len(found), overrides, varied, config)
            found.setdefault(job.fingerprint, job)
        return list(found.values())


def collect(before: Collected | None, config: DictConfig, hydra: HydraConf) -> Collected | None:
    """Add a job that Hydra composed; None when it is to run in this process, at once.

    Raises:
        InputError: it wants several devices, which a launcher that runs jobs in one process cannot give.
    """
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    resolved: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    if hydra.mode != RunMode.MULTIRUN:
        if "sampler" in resolved["sweep"]:
            raise InputError(f"sweep={hydra.runtime.choices['sweep']}: a search runs many jobs; add -m")
        return None
    if resolved["resume"]:
        raise InputError("resume: it goes on with one run; leave out -m (a sweep goes on when it is typed again)")
    if not kind_of(resolved).leaves_a_record:
        raise InputError(f"action={action_of(resolved)}: it leaves no run to sweep over; leave out -m")
    launcher = str(hydra.runtime.choices["hydra/launcher"])
    if launcher not in LAUNCHERS:
        if devices(resolved["trainer"], 1) > 1 or resolved["trainer"]["num_nodes"] > 1:
            raise InputError(
                f"hydra/launcher={launcher}: it runs all jobs in one process, where only the first could train on "
                f"several devices; choose hydra/launcher={'|'.join(LAUNCHERS)}"
            )
        return None
    collected = before or Collected(
        launcher, Path(hydra.sweep.dir).absolute(), resolved["sweep"], flags_of(sys.argv[1:])
    )
    # What only lets Hydra compose an evaluated run is said by the job's own command again.
    added = set(with_words_of_the_run(sys.argv[1:])) - set(sys.argv[1:])
    words = [word for word in hydra.overrides.task if word not in added and not _is_of_the_sweep(word)]
    words += [word for word in hydra.overrides.hydra if word.lstrip("+").startswith("hydra.searchpath=")]
    collected.overrides.append(words)
    collected.configs.append(resolved)
    return collected


def _is_of_the_sweep(override: str) -> bool:
    return re.match(r"[+~]*sweep[.=@]", override) is not None


def devices(trainer: dict[str, Any], here: int) -> int:
    """How many devices of one machine a run trains on.

    Args:
        trainer: its settings.
        here: how many this machine has, for `trainer.devices=-1` and "auto".
    """
    wanted = trainer["devices"]
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        return len(wanted)
    if str(wanted) in ("auto", "-1"):
        return max(1, here)
    if re.fullmatch(r"\d+", str(wanted)):
        return int(wanted)
    return len(str(wanted).split(","))


def in_process_folder() -> str:
    """The folder, below the sweep's, of a job that runs in the launcher's own process."""
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    return "." if hydra.runtime.choices["hydra/launcher"] in LAUNCHERS else str(hydra.job.num)
