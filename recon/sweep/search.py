"""A search: Optuna proposes trials, which run like all other jobs; `study.db` in the sweep's folder keeps them."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from recon import runs
from recon.config.conf import command
from recon.errors import InputError
from recon.measures import measure
from recon.report.gains import verdict_of
from recon.streams import printable
from recon.sweep.compose import Composer
from recon.sweep.job import Job
from recon.sweep.pool import Source, progress
from recon.sweep.space import Space
from recon.sweep.state import State, read


class Search(Source):
    """A source of jobs: the trials of a study.

    Args:
        sweep: the node of the configuration.
        base: the overrides that all trials share.
        state: where the jobs are kept.
        space: what the trials vary.
        compose: composes a trial's configuration.
        monitored: the metric that the model monitors and "min" or "max"; None where it has none.
    """

    def __init__(
        self, sweep: dict[str, Any], base: Sequence[str], state: State, space: Space, compose: Composer,
        monitored: tuple[str, str] | None,
    ) -> None:  # fmt: skip
        self.sweep, self.base, self.state, self.space, self.compose = sweep, list(base), state, space, compose
        self.objectives, self.directions = objectives(sweep, monitored)
        goals = {"objectives": self.objectives, "directions": self.directions}
        state.search = {"space": space.record(), **goals}
        self.study = _study(state.folder / "study.db", self.directions)
        self._trials: dict[int, optuna.Trial] = {}
        self._half_done = self._of_state(TrialState.RUNNING)
        begun = {trial.number for trial in self._half_done}
        state.rows = [row for row in state.previous.get("jobs", []) if row["number"] not in begun]

    def summary(self) -> str:
        """Return what is searched for."""
        goals = zip(self.directions, self.objectives, strict=True)
        return f"a search of {self.sweep['trials']} trials for {' and '.join(map(' '.join, goals))}"

    def next(self) -> Job | None:
        """Return the next trial that must run: one that was begun before, else a new one."""
        while True:
            if self._half_done:
                frozen = self._half_done.pop(0)
                trial, overrides = Trial(self.study, frozen._trial_id), _overrides(frozen)
            elif len(self.study.trials) < self.sweep["trials"]:
                # A new sampler for each trial: a search that was killed continues as if it had not been.
                self.study.sampler = _sampler(self.sweep, len(self.study.trials))
                trial = self.study.ask()
                overrides = self.space.suggest(trial, lambda words, key: has(self.compose([*self.base, *words]), key))
                trial.set_user_attr("overrides", dict(word.split("=", 1) for word in overrides))
            else:
                return None
            words = [*self.base, *overrides]
            job = Job(trial.number, words, overrides, self.compose(words))
            self._trials[job.number] = trial
            self.state.add(job)
            if job.status == "waiting":
                return job
            self.ended(job)  # it has run before

    def ended(self, job: Job) -> None:
        """Record the result of a trial in the study; an interrupted one continues with the same command."""
        values = self._values(job) if job.status == "ok" else None
        if values is not None:
            self.study.tell(self._trials[job.number], values)
        elif job.status != "interrupted":
            state = TrialState.PRUNED if job.status == "pruned" else TrialState.FAIL
            self.study.tell(self._trials[job.number], state=state)

    def hopeless(self, job: Job) -> bool:
        """Return whether a running trial is worse than the median of earlier ones at the same validation."""
        if not self.sweep["prune"] or len(self.objectives) > 1:
            return False
        now, trial = progress(job.folder), self._trials[job.number]
        if now.get("monitor") != self.objectives[0]:
            return False
        reported = self.study.trials[trial.number].intermediate_values
        for step, value in enumerate(now.get("values", [])):
            if step not in reported and isinstance(value, int | float):
                trial.report(value, step)
        return trial.should_prune()

    def _of_state(self, state: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=(state,))

    def _values(self, job: Job) -> list[float] | None:
        """Return the objectives of a finished trial; None, with the reason in the job, where it lacks one."""
        metrics = runs.RunFolder(job.folder).metrics
        for name in self.objectives:
            if not math.isfinite(metrics.get(name, math.nan)):
                job.status = "failed"
                job.error = f"sweep.objective: it has no {name}; choose one of {', '.join(sorted(metrics))}"
                return None
        return [metrics[name] for name in self.objectives]

    def has_succeeded(self) -> bool:
        """Return whether a trial has ended well; some fail in any search, as with too high a learning rate."""
        return bool(self._of_state(TrialState.COMPLETE))

    def show_best(self) -> None:
        """Print the best trial, or those that no other beats in all objectives, and their command lines."""
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        best, title, verdict = self._best()
        if not best:
            return
        table = Table("trial", *self.objectives, "overrides", title=title, title_justify="left")
        for trial in best:
            values = (f"{value:.5g}" for value in trial.values)
            table.add_row(str(trial.number), *values, escape(" ".join(_overrides(trial))))
        Console(width=None if Console().is_terminal else 160).print(table)
        if verdict:
            print(printable(f"best: none, as in its test {verdict}"))
        for trial in best:
            print(f"again: {command()} {shlex.join([*self.base, *_overrides(trial)])}")

    def _best(self) -> tuple[list[FrozenTrial], str, str | None]:
        """Return the best trial, or those that no other beats in all objectives, and what to call them.

        None is best whose images are no better than before the model: where that holds for all, also why.
        """
        if len(self.objectives) > 1:
            found = sorted(self.study.best_trials, key=lambda trial: trial.values)
            return found, "no other trial is better in all objectives", None
        sign = 1 if self.directions[0] == "max" else -1
        ranked = sorted(self._of_state(TrialState.COMPLETE), key=lambda trial: -sign * trial.values[0])
        folders = {row["number"]: self.state.folder / row["folder"] for row in read(self.state.folder)["jobs"]}
        verdicts = {number: verdict_of(runs.RunFolder(folder)) for number, folder in folders.items()}
        useful = [trial for trial in ranked if verdicts.get(trial.number) is None]
        if useful or not ranked:
            return useful[:1], "the best trial", None
        return ranked[:1], "the closest trial", verdicts[ranked[0].number]


def _overrides(trial: FrozenTrial) -> list[str]:
    return [f"{key}={value}" for key, value in trial.user_attrs["overrides"].items()]


def objectives(sweep: dict[str, Any], monitored: tuple[str, str] | None) -> tuple[list[str], list[str]]:
    """Return the metrics that a search optimises and the direction of each, "min" or "max"."""
    wanted, given = sweep["objective"], sweep["directions"]
    if wanted is None:
        if monitored is None:
            raise InputError(
                "sweep.objective: this model has no metric that tells which weights are better; name one of its "
                "metrics.json, such as sweep.objective=test/recognised"
            )
        wanted = monitored[0]
    names = [wanted] if isinstance(wanted, str) else [str(name) for name in wanted]
    if given is None:
        of_monitored = dict([monitored] if monitored else [])
        better = {1: "max", -1: "min"}
        directions = [of_monitored.get(name) or better.get(measure(name).better, "") for name in names]
        if "" in directions:
            raise InputError(
                f"sweep.directions: which way {names[directions.index('')]} is better is not known; give min or max "
                "for each objective"
            )
        return names, directions
    directions = [given] if isinstance(given, str) else list(given)
    if len(directions) != len(names) or not set(directions) <= {"min", "max"}:
        raise InputError(f"sweep.directions: {given} does not fit; give min or max for each of {', '.join(names)}")
    return names, directions


def _study(path: Path, directions: Sequence[str]) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return optuna.create_study(
            storage=f"sqlite:///{path}",
            study_name="sweep",
            directions=[optuna.study.StudyDirection[f"{direction}imize".upper()] for direction in directions],
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_min_trials=2),
            load_if_exists=True,
        )
    except Exception as error:  # SQLite and SQLAlchemy raise a dozen types for a damaged file
        raise InputError(
            f"sweep: {path} is damaged ({str(error).splitlines()[0][:120]}); remove it to begin the search again (the "
            "runs so far are kept)"
        ) from error


def _sampler(sweep: dict[str, Any], number: int) -> optuna.samplers.BaseSampler:
    seed = 1000 * sweep["seed"] + number
    if sweep["sampler"] == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    # Running trials count as bad ones, so that no two are alike.
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=8, constant_liar=True)


def has(config: dict[str, Any], key: str) -> bool:
    """Return whether a configuration has a key such as `optimizer.lr`."""
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return True


def extremes(space: Space, base: Sequence[str], compose: Composer) -> list[dict[str, Any]]:
    """Return the configurations of each combination of groups, and with each key at its ends or choices.

    Raises:
        InputError: a key that no combination of groups has.
    """
    under = [(words, compose([*base, *words])) for words in space.combinations()]
    configs = [config for _, config in under]
    for key in space.keys:
        words = next((words for words, config in under if has(config, key)), None)
        if words is None:
            raise InputError(f"sweep.space.{key}: there is no such key; `{command()} --cfg job` shows all keys")
        configs += [compose([*base, *words, end]) for end in space.ends(key)]
    return configs
