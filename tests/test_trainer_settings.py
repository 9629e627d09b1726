"""What a training cannot be is told in one sentence that names the key, before anything is begun."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from conftest import QUICK, Compose, Typed
from lightning.pytorch.callbacks import LearningRateMonitor

from recon import build
from recon.actions.evaluate import evaluate
from recon.actions.train import train
from recon.errors import InputError

NAN, INFINITE = float("nan"), float("inf")
# The key to blame, and values of it that cannot be; in parentheses with what else is set.
WRONG: dict[str, list[Any]] = {
    "trainer.max_epochs": [0, -2, 1.5, None, "ten", True, NAN, (-1, {"trainer.max_steps": -1})],
    "trainer.min_epochs": [-1, 1.5, "a", (5, {"trainer.max_epochs": 3})],
    "trainer.max_steps": [0, -2, 2.5, None, "many", True],
    "trainer.min_steps": [-1, 0.5, (9, {"trainer.max_steps": 3})],
    "trainer.max_time": [
        60, 0, "60", "1:00", "00:00:00:00", "00:00:60", "-1:00:00:00", "99999999999:00:00:00", {"hour": 1},
        {"hours": "a"}, {"hours": -1}, {"hours": NAN}, {}, [],
    ],
    "trainer.limit_train_batches": [0, 0.0, -1, -0.5, 1.5, 20.0, NAN, INFINITE, "half", True],
    "trainer.limit_val_batches": [-1, 1.01, NAN, "half", False],
    "trainer.limit_test_batches": [0, 0.0, -1, 1.5, NAN, "half", [1]],
    "trainer.limit_predict_batches": [-1, 1.5],
    "trainer.overfit_batches": [-1, 1.5, None, "one"],
    "trainer.val_check_interval": [0, 0.0, -1, 1.5, NAN, "00:00:00:01", {"seconds": 1}],
    "trainer.check_val_every_n_epoch": [0, -1, 0.5, "two", None],
    "trainer.log_every_n_steps": [0, -1, 0.5, None],
    "trainer.accumulate_grad_batches": [0, -1, 1.5, {0: 2}],
    "trainer.reload_dataloaders_every_n_epochs": [-1, 0.5],
    "trainer.gradient_clip_val": [-1, NAN, INFINITE, "one", True],
    "trainer.gradient_clip_algorithm": ["max", 2],
    "trainer.devices": [0, -2, "abc", "", [], [0, 0], [-1], 2.5, None, True, 10**6, "1000000", [0], -1],
    "trainer.num_nodes": [0, -1, 2, (2, {"trainer.devices": 2}), None, 1.5],
    "trainer.accelerator": ["nope", "tpu", None, 5, ["cpu"]],
    "trainer.strategy": ["nope", "ddp_spawn", "fsdp", None],
    "trainer.precision": ["nope", "8", 8, "fp16", ["16-mixed"]],
    "trainer.deterministic": ["yes", 1],
    "trainer.enable_progress_bar": ["no", 1, None],
    "trainer.fast_dev_run": [-1, "yes"],
    **{f"trainer.{key}": [True] for key in ("logger", "num_sanity_val_steps", "plugins", "profiler", "barebones")},
    **{f"trainer.enable_{key}": [False] for key in ("checkpointing", "model_summary")},
    "trainer.use_distributed_sampler": [False],
    "trainer.default_root_dir": ["here"],
    "trainer.callbacks": [5, ["EarlyStopping"], [{"_target_": "torch.nn.ReLU"}]],
    "trainer": [5, None, "fast"],
    "checkpoint": [5, None],
    "checkpoint.minutes": [0, -1, NAN, INFINITE, "ten", True],
    "checkpoint.steps": [0, -1, 1.5, "ten"],
    "early_stopping": [0, -1, 1.5, "three", True, (3, {"trainer.limit_val_batches": 0})],
}  # fmt: skip


def with_values(config: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    changed = deepcopy(config)
    for place, value in values.items():
        group, _, key = place.rpartition(".")
        (changed[group] if group else changed)[key] = value
    return changed


def sentence_of(error: InputError, key: str) -> str:
    sentence = str(error)
    assert sentence.startswith((f"{key}: ", f"{key}[")), sentence
    assert "\n" not in sentence
    assert not any(word in sentence for word in ("Union", "Literal", "Optional", "Exception")), sentence
    assert ";" in sentence, f"no remedy in {sentence!r}"
    return sentence


def test_wrong_settings_name_their_key(compose: Compose, tmp_path: Path) -> None:
    config = compose(*QUICK, "model=autoencoder")
    build.run(config, tmp_path / "run")  # right as it is
    for key, values in WRONG.items():
        for value in values:
            more: dict[str, Any] = {}
            if isinstance(value, tuple):
                value, more = value
            with pytest.raises(InputError) as raised:
                build.run(with_values(config, {key: value, **more}), tmp_path / "run")
            sentence_of(raised.value, key)
    assert not list(tmp_path.iterdir())


def test_what_trains_nothing_says_so(compose: Compose, tmp_path: Path) -> None:
    config = compose(*QUICK, "model=autoencoder")
    for key, value in (("max_epochs", 0), ("max_steps", 0), ("max_time", "00:00:00:00"), ("limit_train_batches", 0)):
        with pytest.raises(InputError, match=f"^trainer.{key}: nothing would be trained"):
            build.run(with_values(config, {f"trainer.{key}": value}), tmp_path)


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["model=gan", "early_stopping=3"], "early_stopping"),
        (["model=gan", "trainer.accumulate_grad_batches=2"], "trainer.accumulate_grad_batches"),
        (["scheduler=plateau", "trainer.limit_val_batches=0"], "scheduler"),
        (["scheduler=cosine", "trainer.max_epochs=-1", "trainer.max_steps=-1", "early_stopping=1"], "scheduler"),
        (["scheduler=one_cycle", "trainer.max_epochs=-1", "trainer.max_steps=-1", "early_stopping=1"], "scheduler"),
        (["accelerator=gpu"], "trainer.accelerator"),
        (["accelerator=mps"], "trainer.accelerator"),
        (["trainer.devices=2", "task.batch_size=31"], "task.batch_size"),
    ],
)
def test_what_cannot_go_together_names_the_key(
    words: list[str], key: str, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    config = compose(*QUICK, *words)
    with pytest.raises(InputError) as raised:
        build.run(config, tmp_path)
    sentence_of(raised.value, key)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("limit_train_batches", 0.01),
        ("limit_val_batches", 0.3),
        ("limit_test_batches", 0.001),
        ("overfit_batches", 0.001),
        ("val_check_interval", 20),
    ],
)
def test_limits_are_checked_against_the_images_before_the_run(
    key: str, value: float, compose: Compose, tmp_path: Path
) -> None:
    config = compose(*QUICK, "model=autoencoder")
    folder = tmp_path / "run"
    wrong = with_values(config, {"trainer.limit_val_batches": None, f"trainer.{key}": value})
    with pytest.raises(InputError) as raised:
        train(wrong, folder, {})
    sentence = sentence_of(raised.value, f"trainer.{key}")
    assert f"{value} " in sentence
    assert not folder.exists()


def test_limits_that_only_just_do_are_right(compose: Compose, tmp_path: Path) -> None:
    config = compose(*QUICK, "model=autoencoder")  # 19 batches to train on, 3 to validate, 6 to test
    just = {"limit_train_batches": 1 / 19, "limit_val_batches": 0.3334, "limit_test_batches": 1 / 6}
    train(with_values(config, {f"trainer.{key}": value for key, value in just.items()}), tmp_path / "a", {})
    counted = {"check_val_every_n_epoch": None, "val_check_interval": 20, "limit_val_batches": 1}
    train(with_values(config, {f"trainer.{key}": value for key, value in counted.items()}), tmp_path / "b", {})
    evaluated = compose(*QUICK, "model=autoencoder", "action=evaluate", f"run={tmp_path}/a")
    with pytest.raises(InputError, match="limit_test_batches"):
        evaluate(with_values(evaluated, {"trainer.limit_test_batches": 0.1}), tmp_path, {})


def test_a_time_limit_alone_ends_a_training(compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECON_PROGRESS", "1")
    words = ["trainer.max_epochs=-1", "trainer.max_steps=-1", "trainer.max_time='00:00:00:01'", "scheduler=plateau"]
    train(compose(*QUICK, *words, "model=autoencoder"), tmp_path / "run", {})
    assert "Infinity" not in (tmp_path / "run" / "progress.json").read_text()


def test_callbacks_are_added(compose: Compose, tmp_path: Path) -> None:
    node = {"_target_": "lightning.pytorch.callbacks.LearningRateMonitor"}
    config = compose(*QUICK, "model=autoencoder", "logger=csv")
    for nodes in (node, [node]):
        made = build.run(with_values(config, {"trainer.callbacks": nodes}), tmp_path)
        assert sum(isinstance(callback, LearningRateMonitor) for callback in made.trainer.callbacks) == 1  # type: ignore[attr-defined]
    # What only Lightning knows when it begins.
    with pytest.raises(InputError, match=r"^trainer.callbacks: .* has no logger"):
        train(with_values(config, {"trainer.callbacks": node, "logger._target_": None}), tmp_path / "run", {})


def test_weights_to_start_from_are_looked_for_before_the_images(typed: Typed) -> None:
    words = ["model=classifier", "task=mnist", "data.root=nowhere", *QUICK]
    assert typed.refused("init_from=/nope", *words).startswith("error: init_from: /nope is no run folder")
    assert not list(typed.tmp_path.glob("outputs/*"))
