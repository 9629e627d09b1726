"""The health of adversarial trainings: what signs mean, and returns that leave everything exact."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Compose, type_in
from test_resume import QUICK, Stop, outcome, stop  # noqa: F401

from recon import health
from recon.actions.train import train
from recon.errors import InputError, Interrupted
from recon.modules import health as watching
from recon.runs.checkpoint import load

GAN = (
    "model=gan", "model.net.base=16", "model.net.generator_widths=[16]", "model.net.discriminator_widths=[8,16]",
    "model.judge=null", "model.health.rollback=true",
)  # fmt: skip


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at each step, and keep a checkpoint to return to every three."""
    monkeypatch.setattr("recon.modules.gan.EVERY", 1)
    monkeypatch.setattr(watching, "BETWEEN", 3)


def ill_at(monkeypatch: pytest.MonkeyPatch, *steps: int) -> list[int]:
    """Let the training be ill at steps, once at each of them that is given; returns those that are left."""
    left = list(steps)

    def sign_of(signs: list[health.Signs]) -> str:
        return "collapsing" if left and signs[-1].step == left[0] and not left.pop(0) < 0 else "healthy"

    monkeypatch.setattr(watching, "sign_of", sign_of)
    monkeypatch.setattr(health, "_PATIENCE", 1)
    return left


def test_a_return_that_changes_nothing_leaves_no_trace(
    often: None, compose: Compose, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Weights, optimisers, schedules, counters, draws and curves are those of a run that never returned."""
    monkeypatch.setattr(watching, "RATE", 1.0)
    config = compose(*QUICK, *GAN, "scheduler=cosine", "model.net.dropout=0.2")
    ill_at(monkeypatch)
    train(config, tmp_path / "whole", {})
    ill_at(monkeypatch, 11, 14)
    train(config, tmp_path / "returned", {})
    expected, found = outcome(tmp_path / "whole"), outcome(tmp_path / "returned")
    assert {part for part in expected if found[part] != expected[part]} == set()
    events = load(tmp_path / "returned" / "checkpoints" / "last.ckpt")["health"]["events"]
    assert [(event["step"], event["state"]) for event in events] == [(11, "collapsing"), (14, "collapsing")]


def test_a_return_lowers_the_rates_strengthens_the_penalties_and_survives_a_stop(
    often: None,
    compose: Compose,
    stop: Stop,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    config = compose(*QUICK, *GAN, "scheduler=cosine", "model.net.norm=none", "model.r2=0.1")
    ill_at(monkeypatch, 8, 14)
    train(config, tmp_path / "whole", {})
    state = load(tmp_path / "whole" / "checkpoints" / "last.ckpt")
    assert [(event["step"], event["back"]) for event in state["health"]["events"]] == [(8, 6), (14, 12)]
    assert state["health"]["penalties"] == {"gradient_penalty": 0.0, "r1": 0.0, "r2": pytest.approx(0.4)}
    rates = {row["step"]: float(row["lr"]) for row in csv.DictReader((tmp_path / "whole" / "metrics.csv").open())}
    start = config["optimizer"]["lr"]
    assert rates == {"6": pytest.approx(0.75 * start), "12": pytest.approx(0.25 * start / 4), "18": pytest.approx(0)}
    with (tmp_path / "whole" / "health_events.csv").open() as file:
        assert [row["rate"] for row in csv.DictReader(file)] == ["0.25", "0.0625"]
    # Stopped after the first return, and after the second.
    folder = tmp_path / "stopped"
    left = ill_at(monkeypatch, 8, 14)
    stop.after = 10
    with pytest.raises(Interrupted):
        train(config, folder, {})
    assert left == [14]
    stop.after = 8
    with pytest.raises(Interrupted):
        train({**config, "resume": str(folder)}, folder, {})
    assert left == []
    train({**config, "resume": str(folder)}, folder, {})
    assert outcome(folder) == outcome(tmp_path / "whole")


def test_a_training_that_stays_ill_returns_as_often_as_allowed_and_then_goes_on(
    often: None, compose: Compose, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: Any
) -> None:
    monkeypatch.setattr(watching, "sign_of", lambda signs: "stalling" if signs[-1].step > 4 else "healthy")
    monkeypatch.setattr(health, "_PATIENCE", 1)
    train(compose(*QUICK, *GAN, "model.health.rollbacks=2"), tmp_path, {})
    output = capfd.readouterr().out
    assert output.count("health: stalling at step 5: the generator no longer learns") == 3
    assert output.count("health: back to step 3 for stalling") == 2
    with (tmp_path / "metrics.csv").open() as file:
        assert [(row["step"], row["train/health"]) for row in csv.DictReader(file)] == [
            ("6", "1.0"), ("12", "1.0"), ("18", "1.0"),
        ]  # fmt: skip
    with (tmp_path / "health.csv").open() as file:
        assert [row["state"] for row in csv.DictReader(file)] == ["0"] * 4 + ["1"] * 14


def test_a_loss_that_is_not_finite_returns_before_it_ends_the_run(
    often: None, compose: Compose, tmp_path: Path, capfd: Any
) -> None:
    config = compose(*QUICK, *GAN, "optimizer.lr=1e30", "model.health.rollbacks=1")
    with pytest.raises(InputError, match="the loss is not finite"):
        train(config, tmp_path, {})
    assert capfd.readouterr().out.count("health: back to step 0 for diverging") == 1


# What signs mean ---------------------------------------------------------------------------------------------------

WELL = {"real": 0.5, "fake": -0.5, "spread": 0.7, "certain": 0.5, "generator_gradient": 4.0,
        "discriminator_gradient": 8.0, "diversity": 0.9, "held_out": 0.2, "followed": 0.9, "covered": 0.9}  # fmt: skip
NAN = float("nan")
COURSES: dict[str, tuple[str, dict[str, Any]]] = {
    "as usual": ("healthy", {}),
    "no judge and no validation": ("healthy", {"held_out": NAN, "followed": NAN, "covered": NAN}),
    "labels not learned yet": ("healthy", {"followed": 0.0, "covered": 0.05}),
    "a critic without a scale": ("healthy", {"real": 1000.0, "fake": 990.0, "spread": 5.0}),
    "a loss in which pairs count": ("healthy", {"real": 0.02, "fake": 0.03, "spread": 0.1}),
    "too few clean images of a class": ("healthy", {"diversity": NAN}),
    "a number that is none": ("diverging", {"fake": NAN}),
    "logits far apart": ("diverging", {"real": 25.0, "fake": -25.0, "spread": 9.0}),
    "fooled": ("stalling", {"real": 0.1, "fake": 1.0, "spread": 0.1}),
    "images alike": ("collapsing", {"diversity": 0.1}),
    "half of the coverage lost": ("collapsing", {"covered": 0.4}),
    "known by heart": ("over-fitting", {"held_out": 0.9}),
}


def looks(count: int, **changed: Any) -> list[health.Signs]:
    return [health.Signs(step=25 * (look + 1), **{**WELL, **changed}) for look in range(count)]


@pytest.mark.parametrize("course", COURSES)
def test_what_signs_point_to(course: str) -> None:
    state, changed = COURSES[course]
    assert health.sign_of(looks(0 if state == "healthy" else 10) + looks(10, **changed)) == state
    assert health.sign_of(looks(20)) == "healthy"


def test_labels_that_mean_nothing_show_at_two_validations() -> None:
    first = looks(10, followed=0.01, covered=0.4)
    assert health.sign_of(first) == "healthy"
    assert health.sign_of(first + looks(4, followed=0.0, covered=0.5)) == "stalling"
    assert health.sign_of(first + looks(4, followed=0.16, covered=0.5)) == "stalling"
    assert health.sign_of(first + looks(4, followed=0.2, covered=0.5)) == "healthy"


def test_a_net_that_begins_with_images_all_alike_is_given_time() -> None:
    assert health.sign_of(looks(20, diversity=0.05)) == "healthy"
    assert health.sign_of(looks(60, diversity=0.05)) == "stalling"


def test_nothing_is_said_of_the_first_steps() -> None:
    assert health.sign_of(looks(8, real=0.1, fake=1.0, spread=0.1)) == "healthy"
    assert health.sign_of(looks(9, real=0.1, fake=1.0, spread=0.1)) == "stalling"


def test_the_state_changes_when_looks_agree_and_changes_back() -> None:
    states, state, seen = [], "healthy", []
    for pointer in ["healthy"] * 2 + ["stalling", "diverging"] * 4 + ["stalling"] * 5 + ["healthy"] * 5:
        seen.append(pointer)
        state = health.state_after(state, seen)
        states.append(state)
    assert states == ["healthy"] * 13 + ["stalling"] * 5 + ["healthy"] * 2


def test_the_diversity_of_clean_images_is_1_and_of_half_as_different_ones_a_half() -> None:
    generator, reference = torch.Generator().manual_seed(0), watching.Reference()
    label = torch.arange(400) % 4
    means = 5 * torch.randn(4, 1, 6, 6, generator=generator)
    images = [means[label] + torch.randn(400, 1, 6, 6, generator=generator) * scale for scale in (1.0, 1.0, 0.5)]
    assert reference.compared(images[1], label).isnan()
    for part in range(0, 400, 50):
        reference.add(*map(float, watching.within(images[0][part : part + 50], label[part : part + 50])))
    assert float(reference.compared(images[1], label)) == pytest.approx(1, abs=0.02)
    assert float(reference.compared(images[2], label)) == pytest.approx(0.5, abs=0.01)


def test_how_far_held_out_images_lie_towards_generated_ones() -> None:
    assert watching.held_out(2.0, 2.0, -1.0) == 0
    assert watching.held_out(2.0, 0.5, -1.0) == 0.5
    assert watching.held_out(-1.0, 0.5, 2.0) != watching.held_out(-1.0, 0.5, 2.0)


@pytest.mark.slow
def test_two_processes_return_together(tmp_path: Path) -> None:
    done = type_in(
        "model=gan", "trainer.devices=2", "trainer.accelerator=cpu", "model.health.rollback=true", "logger=none",
        "model.health.rollbacks=1", "optimizer.lr=1e30", "trainer.log_every_n_steps=5", "trainer.max_steps=10",
        f"hydra.run.dir={tmp_path}/run",
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stdout.count("health: back to step 0 for diverging, with learning rates times 0.25") == 1
    assert "the loss is not finite" in done.stderr
