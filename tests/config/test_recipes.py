"""Recipes: what bare commands come to, by model and task; what is typed wins; the presets are as they were."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Compose, choices

from recon.config.depending import choice_for
from recon.config.help import help_text
from recon.sweep.compose import Composer

# What the classic presets composed to before the recipe of a classifier followed from its task.
PRESETS = json.loads((Path(__file__).parent / "presets.json").read_text())
NETS = {"mnist": "CNN", "fashion_mnist": "SpeedNet", "cifar10": "SpeedNet"}
PLAIN = {"label_smoothing": 0.0, "ema": 0.0, "test_flip": False}


def flat(node: Any, above: str = "") -> dict[str, Any]:
    """Write nested keys with points; lists stay whole."""
    if not isinstance(node, dict):
        return {above: node}
    return {name: value for key, inner in node.items() for name, value in flat(inner, f"{above}.{key}").items()}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_as_it_was(name: str, compose: Compose) -> None:
    """Keys that are new since then may be beside its own."""
    composed, before = flat(compose(f"experiment={name}")), PRESETS[name]
    assert {key: composed.get(key) for key in before} == before


@pytest.mark.parametrize("task", NETS)
def test_the_bare_classifier_trains_by_the_recipe_of_its_task(task: str, compose: Compose) -> None:
    config = compose("model=classifier", f"task={task}")
    recipe, model = config["recipe"], config["model"]
    assert model["net"]["_target_"].endswith(f".{NETS[task]}")
    assert config["optimizer"]["_target_"] == "torch.optim.AdamW"
    assert [config["optimizer"][key] for key in ("lr", "weight_decay")] == [recipe["lr"], recipe["weight_decay"]]
    assert config["scheduler"]["_target_"].endswith("OneCycleLR")
    assert config["augment"]["crop_padding"] > 0
    assert {key: model[key] for key in PLAIN} == {key: recipe[key] for key in PLAIN}
    assert model["label_smoothing"] > 0
    assert model["ema"] > 0
    assert model["test_flip"] == config["augment"]["flip"], "digits have no mirror images"
    assert config["task"]["batch_size"] == recipe["batch_size"]
    assert config["trainer"]["max_epochs"] == recipe["epochs"]["colour" if task == "cifar10" else "large"]


def test_other_images_are_trained_on_by_the_plain_recipe(compose: Compose) -> None:
    for task in set(choices("task")) - NETS.keys() - {"folder", "webdataset"}:
        config = compose("model=classifier", f"task={task}")
        assert config["model"]["net"]["_target_"].endswith(".CNN")
        assert config["optimizer"]["_target_"] == "torch.optim.Adam"
        assert {key: config["model"][key] for key in PLAIN} == PLAIN


@pytest.mark.parametrize("model", sorted(set(choices("model")) - {"classifier", "baseline"}))
def test_other_models_do_not_depend_on_the_task(model: str, compose: Compose) -> None:
    first, second = (compose(f"model={model}", f"task={task}") for task in ("mnist", "fashion_mnist"))
    first.pop("task"), second.pop("task")
    assert first == second


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (("optimizer=sgd",), "optimizer.lr", 0.05),
        (("optimizer=adam",), "optimizer.lr", 1e-3),
        (("optimizer.lr=0.1",), "optimizer.lr", 0.1),
        (("scheduler=constant",), "scheduler._target_", "torch.optim.lr_scheduler.ConstantLR"),
        (("augment=none",), "augment.rotate", 0.0),
        (("augment.rotate=3",), "augment.rotate", 3),
        (("model/net=lenet",), "model.net._target_", "recon.nets.lenet.LeNet"),
        (("model.label_smoothing=0",), "model.label_smoothing", 0),
        (("model.ema=0",), "model.ema", 0),
        (("task.epochs=2",), "trainer.max_epochs", 2),
        (("task.batch_size=7",), "task.batch_size", 7),
        (("recipe=cnn",), "model.label_smoothing", 0.0),
        (("recipe=cnn",), "augment.rotate", 0.0),
        (("recipe=cnn",), "optimizer.lr", 1e-3),
        (("recipe=cnn",), "trainer.max_epochs", 3),
        (("recipe=classifier_cifar10", "model/net=speednet"), "augment.flip", True),
        (("recipe=cnn", "optimizer=adamw_high"), "optimizer.lr", 3e-3),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_is_typed_wins(words: tuple[str, ...], key: str, value: Any, compose: Compose) -> None:
    assert flat(compose("model=classifier", "task=mnist", *words))[f".{key}"] == value


def test_a_task_of_the_users_own_has_the_plain_recipe_or_one_of_its_own(tmp_path: Path) -> None:
    for group, text in {
        "task": "# mine\ndefaults: [mnist, _self_]\n",
        "model": "# mine\ndefaults: [classifier, override /recipe@_global_.recipe: dense, _self_]\nfocal: 2.0\n",
    }.items():
        (tmp_path / group).mkdir()
        (tmp_path / group / "mine.yaml").write_text(text)
    compose = Composer(["--config-dir", str(tmp_path)])
    assert compose(["model=classifier", "task=mine"])["optimizer"]["lr"] == 1e-3
    mine = compose(["model=mine", "task=mnist"])
    assert (mine["optimizer"]["lr"], mine["model"]["focal"], mine["model"]["ema"]) == (3e-3, 2.0, 0.0)


def test_the_help_marks_what_the_default_recipe_chooses() -> None:
    text = help_text([ROOT / "conf"])
    for choice in ("adam", "one_cycle", "none", "cnn", "digits", "inpainting"):
        assert f" *{choice} " in text
    assert " *adamw" not in text


def test_a_choice_for_another_choice() -> None:
    assert choice_for("mnist", {"mnist": "a", "cifar10": "b"}, "c") == "a"
    assert choice_for("digits", {"mnist": "a", "cifar10": "b"}, "c") == "c"
