"""`action=shrink run=<run> method=prune|quantise|distil`: a smaller and faster model, as a run of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from recon.actions.base import Action
from recon.config.words import key_of
from recon.errors import InputError
from recon.ranges import require_number

if TYPE_CHECKING:
    from recon.modules.base import Module
    from recon.shrink.costs import Form

_METHODS = ("prune", "quantise", "distil")
_LENGTHS = ("max_steps", "max_epochs", "max_time")
# The keys of `trainer` that belong to a machine and not to a recipe.
_OF_A_MACHINE = ("accelerator", "devices", "num_nodes", "strategy", "enable_progress_bar")
_LARGEST = 64  # pixels of the side for which the multiply-adds of nets for any size are counted


@dataclass
class Shrink(Action):
    """Shrink a trained model; what its keys mean stands in `conf/action/shrink.yaml`."""

    needs_run: ClassVar[bool] = True
    refuses: ClassVar[tuple[str, ...]] = (
        "model", "model/loss", "model/quantiser", "optimizer", "scheduler", "recipe", "augment", "experiment", "task",
    )  # fmt: skip
    refusal: ClassVar[str] = "a shrunk model is trained by the recipe of the run, whose single keys can be set"

    run: str | int | None
    method: str
    keep: float
    max_loss: float | None

    def __post_init__(self) -> None:
        if self.method not in _METHODS:
            raise InputError(f"method: {self.method!r} does not exist; choose {'|'.join(_METHODS)}")
        if isinstance(self.keep, bool) or not isinstance(self.keep, int | float) or not 0 < self.keep <= 1:
            raise InputError(f"keep: {self.keep!r} is no share of the multiply-adds; give a number above 0, at most 1")
        if self.max_loss is not None:
            require_number("max_loss", self.max_loss, 0, 100)

    def __call__(self, config: dict[str, Any], folder: Path, about: Mapping[str, Any]) -> dict[str, float]:
        """Shrink, train on where the method asks for it, and test."""
        overrides = about.get("overrides", ())
        nets = [word for word in overrides if key_of(word) == "model/net" or key_of(word).startswith("model.net.")]
        if nets and self.method != "distil":
            raise InputError(f"{key_of(nets[0])}: method={self.method} keeps the run's own net; leave it out, or set "
                             "method=distil")  # fmt: skip
        if not config["resume"]:
            config = _as_trained(config, overrides)
        if self.method == "quantise":
            return self._quantise(config, folder, about)
        trained = self._distil(config, folder, about, bool(nets)) if self.method == "distil" else (
            self._prune(config, folder, about))  # fmt: skip
        if _is_first():
            _compare(folder, Path(config["run"]))
        return trained

    def _quantise(self, config: dict[str, Any], folder: Path, about: Mapping[str, Any]) -> dict[str, float]:
        """Quantise for ONNX Runtime, and test what came of it."""
        from rich.console import Console

        from recon import build
        from recon.actions.evaluate import introduce, test
        from recon.console import say
        from recon.export.onnx import require_onnx, session
        from recon.restore.of_run import weights_of
        from recon.runs.checkpoint import best_or_last, load_weights
        from recon.runs.files import in_words, write_bytes
        from recon.runs.record import recorded
        from recon.shrink import costs, quantise

        require_onnx("method")
        source = Path(config["run"])
        config = _on_the_cpu(config)
        module = require_shrinkable(build.trained(source), source)
        weights = weights_of(module, source, may_recognise=True)
        task = build.task(config)
        damage = build.degradation(config, task)
        module.prepare_for(damage)
        data = build.data(config, task, damage, module)
        limit = config["trainer"]["limit_val_batches"]
        net, image = module.active_net, example(module)
        forms = [costs.of_torch(costs.ORIGINAL, module, image)]
        with Console(stderr=True).status("shrink: quantising, and looking what that loses"):
            made = quantise.quantised(module, weights, data, self.max_loss, limit)
        for of, name, form in ((costs.ORIGINAL, costs.ONNX, made.float32), (costs.SHRUNK, costs.INT8, made.int8)):
            forms.append(costs.form(of, name, session(form), len(form), net, image))
        module, data, trainer, loggers = build.run(config, folder)
        load_weights(module, best_or_last(source))
        module.read_more(source)
        quantise.serving(module, made.int8)
        with recorded(folder, config, about, loggers) as results:
            introduce(module, data, trainer, folder, test_alone=True)
            results |= test(trainer, module, data, folder)
            results.describe(module)
            for name, content in {"model.onnx": made.float32, "model_int8.onnx": made.int8}.items():
                write_bytes(folder / name, content)
                say(f"shrink: {folder / name}: {in_words(len(content))}")
        if _is_first():
            _write_costs(forms, image, module, folder, source)
        return results

    def _distil(
        self, config: dict[str, Any], folder: Path, about: Mapping[str, Any], has_net: bool
    ) -> dict[str, float]:
        """Train another net by the recipe of the run, which teaches it."""
        from recon.actions.train import train
        from recon.build import trained
        from recon.console import say
        from recon.shrink.prune import multiply_adds

        if config["resume"]:
            return train(config, folder, about)
        if not has_net:
            raise InputError("model/net: it is the run's own; add the smaller net that is to be taught, such as "
                             "model/net=lenet or model.net.widths=[8,16]")  # fmt: skip
        source = Path(config["run"])
        teacher = require_shrinkable(trained(source), source)
        config["model"]["teacher"] = str(source)

        def begin(started: Module) -> None:
            nets = [(each.active_net.eval(), example(each)) for each in (teacher, started)]
            counts = [multiply_adds(net, image) for net, image in nets]
            started.train()
            weights = [sum(weight.numel() for weight in net.parameters()) for net, _ in nets]
            say(f"shrink: {_of(counts)} multiply-adds, {_of(weights)} weights, taught by {source}")

        return train(config, folder, about, begin)

    def _prune(self, config: dict[str, Any], folder: Path, about: Mapping[str, Any]) -> dict[str, float]:
        """Prune, and train on by the run's own recipe."""
        from rich.console import Console

        from recon.actions.train import train
        from recon.build import trained
        from recon.console import say
        from recon.runs import RunFolder
        from recon.shrink import prune

        if config["resume"] and RunFolder(folder).has_checkpoint:
            return train(config, folder, about)
        prune.require_torch_pruning()
        source = Path(config["run"])
        module = require_shrinkable(trained(source), source)
        with Console(stderr=True).status("shrink: looking for what can go"):
            image = example(module)
            smaller = prune.pruned(module.active_net, image, self.keep)
            node = prune.node_of(RunFolder(source).config["model"]["net"], smaller.shapes)
            prune.require_rebuilt(smaller, node, module.facts, image)
        weights = [sum(weight.numel() for weight in net.parameters()) for net in (module.active_net, smaller.net)]
        counts = [smaller.before, smaller.after]
        say(f"shrink: {_of(counts)} multiply-adds, {_of(weights)} weights stay, and are trained on")
        config["model"]["net"] = node

        def begin(started: Module) -> None:
            started.net.load_state_dict(smaller.net.state_dict())

        return train(config, folder, about, begin)


def _is_first() -> bool:
    """Return whether this is the first process of the run."""
    from lightning.pytorch.utilities import rank_zero_only

    return getattr(rank_zero_only, "rank", 0) == 0


def _compare(folder: Path, source: Path) -> None:
    """Measure a smaller net beside the one that it was made of, where that is still there."""
    from recon.build import trained
    from recon.runs import RunFolder
    from recon.shrink import costs

    module = trained(folder)
    image = example(module)
    forms = costs.forms(costs.SHRUNK, module, folder, image)
    if RunFolder(source).has_weights:
        forms = [*costs.forms(costs.ORIGINAL, trained(source), source, image), *forms]
    _write_costs(forms, image, module, folder, source)


def _write_costs(forms: list[Form], image: Any, module: Module, folder: Path, source: Path) -> None:
    from rich.console import Console

    from recon.runs.files import write_csv
    from recon.shrink import costs, quantise

    with Console(stderr=True).status("shrink: measuring what it costs"):
        rows = costs.rows(forms, image, folder, source, quantise.main_measure(module))
    write_csv(folder / "shrunk.csv", rows)
    costs.show(rows)


def _of(counts: list[int]) -> str:
    """Write how much is left of what there was."""
    return f"{counts[1]:,} of {counts[0]:,} ({counts[1] / counts[0]:.1%})"


def require_shrinkable(module: Module, run: Path) -> Module:
    """Return a module whose net alone recognises or restores; raises InputError for any other."""
    from recon.nets.contracts import Classifier, Restorer

    fits = module.trains and module.one_pass and module.kind != "generate"
    if not fits or not {Classifier, Restorer} & set(module.contract.__mro__):
        raise InputError(f"run: {run} is of {type(module).__name__}, which neither recognises nor restores by one pass "
                         "of a net; choose a run of model=classifier|restoration|inpainting")  # fmt: skip
    return module


def example(module: Module) -> Any:
    """Return what the net of a module is given for one image, (1,C',h,w), at most 64 pixels wide if it may be."""
    import torch

    facts = module.facts
    sides = facts["image_size"]
    if not module.sees_degraded_size:
        sides = [side // facts["scale"] for side in sides]
    if "image_size" not in module.built_for:
        sides = [min(side, _LARGEST) for side in sides]
    return torch.rand(1, facts["in_channels"], *sides, generator=torch.Generator().manual_seed(0))


def _on_the_cpu(config: dict[str, Any]) -> dict[str, Any]:
    """Let a configuration test on the CPU in float32, where ONNX Runtime runs."""
    here = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto", "precision": "32-true"}
    plain = {"channels_last": False, "compile": False}
    return {**config, "trainer": {**config["trainer"], **here}, "accelerator": {**config["accelerator"], **plain}}


def _as_trained(config: dict[str, Any], overrides: Any) -> dict[str, Any]:
    """Take the recipe's settings of the trainer from the run, but for those that are typed."""
    from recon.config.recorded import read_config

    typed = {key_of(word).removeprefix("trainer.") for word in overrides if key_of(word).startswith("trainer.")}
    left = {*typed, *_OF_A_MACHINE, *(("max_steps", "max_time") if typed & set(_LENGTHS) else ())}
    recorded = {key: value for key, value in read_config(Path(config["run"]))["trainer"].items() if key not in left}
    return {**config, "trainer": {**config["trainer"], **recorded}}
