"""The jobs of a sweep: Hydra composes each, and they are collected here before the first one starts."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.actions.base import kind_of
from recon.config.resolved import resolved
from recon.config.words import LAUNCHERS, as_typed
from recon.errors import InputError
from recon.runs import action_of
from recon.runs.fingerprint import fingerprint
from recon.sweep.compose import Composer, config_flags

if TYPE_CHECKING:
    from hydra.conf import HydraConf
    from omegaconf import DictConfig


@dataclass
class Job:
    """One run of a sweep.

    Args:
        number: its index in the sweep.
        overrides: its command line, without overrides of `sweep`.
        varied: the overrides that differ between the jobs.
        config: the resolved configuration.
        folder: its run folder.
        status: "waiting", "running", "ok", "failed", "killed", "pruned" or "interrupted".
        error: why it failed.
        attempts: how often it was started.
        seconds: duration of the last attempt.
        batch: its SLURM job id, while it is submitted.
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
        """The varied overrides as a file name, such as "model-gan_seed-1"."""
        return re.sub(r"[^\w.-]+", "-", "_".join(self._shown)).strip("-")[:120] or "job"

    @property
    def label(self) -> str:
        """The varied overrides as typed; an evaluated run by the name of its folder."""
        return " ".join(self._shown) or "job"

    @property
    def _shown(self) -> list[str]:
        return [re.sub(r"^run='?/.*/([^/']+)'?$", r"run=\1", word) for word in self.varied]

    @property
    def log(self) -> Path:
        """The file of its output."""
        return self.folder / "output.log"


@dataclass
class Collected:
    """What Hydra composed for one command line.

    Args:
        launcher: the choice of `hydra/launcher`.
        folder: the sweep's folder.
        sweep: the node of the configuration.
        flags: the `--config-…` flags as typed.
        overrides: of each job.
        configs: of each job, resolved.
    """

    launcher: str
    folder: Path
    sweep: dict[str, Any]
    flags: list[str]
    overrides: list[list[str]] = field(default_factory=list)
    configs: list[dict[str, Any]] = field(default_factory=list)

    def jobs(self) -> list[Job]:
        """Return the jobs, equal ones once."""
        shared = set.intersection(*map(set, self.overrides))
        jobs: dict[str, Job] = {}
        for overrides, config in zip(self.overrides, self.configs, strict=True):
            job = Job(len(jobs), overrides, [word for word in overrides if word not in shared], config)
            jobs.setdefault(job.fingerprint, job)
        return list(jobs.values())


def collect(
    collected: Collected | None, config: DictConfig, hydra: HydraConf, words: Sequence[str]
) -> Collected | None:
    """Add a job that Hydra composed; returns None when it must run in this process, at once.

    Args:
        collected: the jobs so far, or None.
        config: the configuration of the job.
        hydra: Hydra's own node of it.
        words: the command line that Hydra composed: as typed, with the group choices of an evaluated run.

    Raises:
        InputError: a multirun cannot run it, or its launcher cannot.
    """
    from hydra.types import RunMode

    launcher = str(hydra.runtime.choices["hydra/launcher"])
    is_search = "sampler" in config.sweep
    if hydra.mode != RunMode.MULTIRUN:
        if is_search:
            raise InputError(f"sweep={hydra.runtime.choices['sweep']}: a search runs many jobs; add -m")
        return None
    values = resolved(config)
    if values["resume"]:
        raise InputError("resume: it continues one run; leave out -m (a sweep continues when it is typed again)")
    if not kind_of(values).leaves_a_record:
        raise InputError(f"action={action_of(values)}: it leaves no run to sweep over; leave out -m")
    if launcher not in LAUNCHERS:
        if is_search:
            raise InputError(
                f"hydra/launcher={launcher}: it runs the command once, not the trials of a search; choose "
                f"hydra/launcher={'|'.join(LAUNCHERS)}"
            )
        if hydra.job.num == 0:
            _check_in_process(hydra, launcher, words)
        return None
    if collected is None:
        folder = Path(hydra.sweep.dir).absolute()
        collected = Collected(launcher, folder, values["sweep"], config_flags(sys.argv[1:]))
    # Drop the choices of the evaluated run; the job's own command adds them again.
    kept = [word for word in as_typed(hydra.overrides.task, sys.argv) if not re.match(r"[+~]*sweep[.=@]", word)]
    kept += [word for word in hydra.overrides.hydra if word.lstrip("+").startswith("hydra.searchpath=")]
    collected.overrides.append(kept)
    collected.configs.append(values)
    return collected


def _check_in_process(hydra: HydraConf, launcher: str, words: Sequence[str]) -> None:
    """Check all jobs of a launcher that runs them in this process, before the first; raises InputError."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra._internal.utils import get_args_parser
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from recon.sweep.child import check_configs

    typed = get_args_parser().parse_args(list(words)).overrides
    given = [*(f"{key}={value}" for key, value in (hydra.sweeper.get("params") or {}).items()), *typed]
    (jobs,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(given), None)
    compose = Composer(config_flags(sys.argv[1:]))
    configs = [compose(overrides) for overrides in jobs]
    for trainer in (config["trainer"] for config in configs):
        if devices(trainer, 1) > 1 or trainer["num_nodes"] > 1:
            raise InputError(
                f"hydra/launcher={launcher}: it runs all jobs in one process, where only the first could train on "
                f"several devices; choose hydra/launcher={'|'.join(LAUNCHERS)}"
            )
    check_configs(configs)


def devices(trainer: dict[str, Any], available: int) -> int:
    """Return how many devices of one machine a run trains on.

    Args:
        trainer: its settings.
        available: the number of this machine's devices, for `trainer.devices=-1` and "auto".
    """
    wanted = trainer["devices"]
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        return len(wanted)
    if str(wanted) in ("auto", "-1"):
        return max(1, available)
    return int(wanted) if str(wanted).isdecimal() else len(str(wanted).split(","))


def in_process_folder() -> str:
    """Return the folder, below the sweep's, of a job that runs in the launcher's own process."""
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    return "." if hydra.runtime.choices["hydra/launcher"] in LAUNCHERS else str(hydra.job.num)
