"""A search: Optuna proposes trials, which run as jobs like all others; `study.db` in the sweep's folder remembers."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from recon import runs
from recon.config.conf import CONF
from recon.errors import InputError
from recon.measures import measure
from recon.sweep.job import Job
from recon.sweep.pool import progress
from recon.sweep.space import Space
from recon.sweep.state import State


class Search:
    """A source of jobs: the trials of a study.

    Args:
        sweep: the node of the configuration.
        base: the overrides that all trials share.
        state: where the jobs are kept.
        conf: the folder of the configuration.
        monitored: the metric that the model monitors and "min" or "max"; None where it has none.
    """

    def __init__(
        self, sweep: dict[str, Any], base: Sequence[str], state: State, space: Space, monitored: tuple[str, str] | None
    ) -> None:
        self.base = list(base)
        self.state = state
        self.space = space
        self.sweep = sweep
        self.objectives, self.directions = objectives(sweep, monitored)
        self.study = _study(self, state.folder / "study.db")
        self._trials: dict[int, optuna.Trial] = {}
        self._half_done = self._of_state(TrialState.RUNNING)
        begun = {trial.number for trial in self._half_done}
        state.rows = [row for row in state.before.get("jobs", []) if row["number"] not in begun]

    # What the pool asks -------------------------------------------------------------------------------------------

    def next(self) -> Job | None:
        """The next trial that must run: one that was begun before, else a new one."""
        while True:
            if self._half_done:
                frozen = self._half_done.pop(0)
                trial = Trial(self.study, frozen._trial_id)
                overrides = [f"{key}={value}" for key, value in frozen.user_attrs["overrides"].items()]
            elif len(self.study.trials) < self.sweep["trials"]:
                # A sampler of its own for each trial: a search that was killed goes on as if it had not been.
                self.study.sampler = _sampler(self.sweep, len(self.study.trials))
                trial = self.study.ask()
                overrides = self.space.suggest(trial, self._has)
                trial.set_user_attr("overrides", dict(word.split("=", 1) for word in overrides))
            else:
                return None
            job = Job(trial.number, [*self.base, *overrides], overrides, compose([*self.base, *overrides]))
            self._trials[job.number] = trial
            self.state.place(job)
            if job.status == "waiting":
                return job
            self.ended(job)  # it has run before

    def ended(self, job: Job) -> None:
        """Tell the study what a trial gave."""
        trial = self._trials[job.number]
        if job.status == "interrupted":
            return  # goes on with the same command
        if job.status == "pruned":
            self.study.tell(trial, state=TrialState.PRUNED)
            return
        values = self._values(job) if job.status == "ok" else None
        if values is None:
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            self.study.tell(trial, values)

    def hopeless(self, job: Job) -> bool:
        """Is a trial at work worse than the median of those before it at the same validation?"""
        if not self.sweep["prune"] or len(self.objectives) > 1:
            return False
        now, trial = progress(job.folder), self._trials[job.number]
        if now.get("monitor") != self.objectives[0]:
            return False
        told = self.study.trials[trial.number].intermediate_values
        for step, value in enumerate(now.get("values", [])):
            if step not in told and isinstance(value, int | float):
                trial.report(value, step)
        return trial.should_prune()

    # ----------------------------------------------------------------------------------------------------------------

    def _of_state(self, state: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=(state,))

    def _has(self, overrides: Sequence[str], key: str) -> bool:
        return has(compose([*self.base, *overrides]), key)

    def _values(self, job: Job) -> list[float] | None:
        """What a finished trial gave; None, with the reason at the job, where it lacks an objective."""
        metrics = runs.RunFolder(job.folder).metrics
        for name in self.objectives:
            value = metrics.get(name)
            if not isinstance(value, int | float) or not math.isfinite(value):
                known = ", ".join(sorted(metrics))
                job.status, job.error = "failed", f"sweep.objective: it has no {name}; choose one of {known}"
                return None
        return [float(metrics[name]) for name in self.objectives]

    def found_any(self) -> bool:
        """Has a trial ended well?"""
        return bool(self._of_state(TrialState.COMPLETE))

    def show_best(self) -> None:
        """Print the best trial, or those that none beats in all objectives, and how to make them again."""
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        if not self.found_any():
            return
        best = sorted(self.study.best_trials, key=lambda trial: trial.values)
        several = len(self.objectives) > 1
        title = "no other trial is better in all objectives" if several else "the best trial"
        table = Table("trial", *self.objectives, "overrides", title=title, title_justify="left")
        for trial in best:
            words = " ".join(f"{key}={value}" for key, value in trial.user_attrs["overrides"].items())
            table.add_row(str(trial.number), *(f"{value:.5g}" for value in trial.values), escape(words))
        Console(width=None if Console().is_terminal else 160).print(table)
        for trial in best[: 1 if not several else None]:
            again = [*self.base, *(f"{key}={value}" for key, value in trial.user_attrs["overrides"].items())]
            print(f"again: python run.py {shlex.join(again)}")


def objectives(sweep: dict[str, Any], monitored: tuple[str, str] | None) -> tuple[list[str], list[str]]:
    """The metrics that a search works on and the direction of each, "min" or "max"."""
    wanted = sweep["objective"]
    if wanted is None:
        if monitored is None:
            raise InputError(
                "sweep.objective: this model has no metric that tells which weights are better; name one of its "
                "metrics.json, such as sweep.objective=test/recognised"
            )
        wanted = monitored[0]
    names = [wanted] if isinstance(wanted, str) else [str(name) for name in wanted]
    given = sweep["directions"]
    if given is None:
        known = dict([monitored] if monitored else [])
        ways = [known.get(name) or {1: "max", -1: "min"}.get(measure(name).better, "") for name in names]
        if "" in ways:
            raise InputError(
                f"sweep.directions: which way {names[ways.index('')]} is better is not known; give min or max for each "
                "objective"
            )
        return names, ways
    directions = [given] if isinstance(given, str) else list(given)
    if len(directions) != len(names) or not set(directions) <= {"min", "max"}:
        raise InputError(f"sweep.directions: {given} does not fit; give min or max for each of {', '.join(names)}")
    return names, directions


def _study(search: Search, path: Path) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _opened(search, path)
    except Exception as error:  # SQLite and SQLAlchemy raise a dozen types for a damaged file
        raise InputError(
            f"sweep: {path} is damaged ({str(error).splitlines()[0][:120]}); remove it to begin the search again (the "
            "runs so far are kept)"
        ) from error


def _opened(search: Search, path: Path) -> optuna.Study:
    return optuna.create_study(
        storage=f"sqlite:///{path}",
        study_name="sweep",
        directions=["minimize" if way == "min" else "maximize" for way in search.directions],
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_min_trials=2),
        load_if_exists=True,
    )


def _sampler(sweep: dict[str, Any], number: int) -> optuna.samplers.BaseSampler:
    seed = 1000 * sweep["seed"] + number
    if sweep["sampler"] == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    # Trials that run at the same time count as bad ones, so that no two are alike.
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=8, constant_liar=True)


def has(config: dict[str, Any], key: str) -> bool:
    """Is there such a key in a configuration?"""
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return True


def check(space: Space, base: Sequence[str]) -> list[dict[str, Any]]:
    """Compose what the space can give; returns the configurations at its ends.

    Raises:
        InputError: a key that no combination of groups has.
    """
    under = [(words, compose([*base, *words])) for words in space.first()]
    configs = [config for _, config in under]
    for key in space.keys:
        words = next((words for words, config in under if has(config, key)), None)
        if words is None:
            raise InputError(f"sweep.space.{key}: there is no such key; `python run.py --cfg job` shows all keys")
        configs += [compose([*base, *words, end]) for end in space.ends(key)]
    return configs


def compose(overrides: Sequence[str]) -> dict[str, Any]:
    """Let Hydra compose a configuration, after its own work is done."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        made: Any = OmegaConf.to_container(hydra_compose("config", list(overrides)), resolve=True)
    return {str(key): value for key, value in made.items()}
