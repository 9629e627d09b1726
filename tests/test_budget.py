"""A training that fits a length of time: the number of steps is probed once, recorded, and followed."""

import pytest
from omegaconf import OmegaConf

from recon.actions import budget
from recon.actions.budget import Pace, within_budget
from recon.actions.train import train
from recon.errors import InputError
from recon.ranges import seconds_of
from recon.runs.fingerprint import identity

WORDS = ("task=digits", "model=autoencoder", "accelerator=cpu", "logger=none", "trainer.enable_progress_bar=false")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("20min", 1200), ("1h30min", 5400), ("1.5h", 5400), ("2d", 172800), ("1 h 5 s", 3605)],
)
def test_lengths_of_time_are_read(text, seconds):
    assert seconds_of("budget", text) == seconds


@pytest.mark.parametrize("text", ["", "20", "20m", "min", "-5min", "0s", "1:30", "400d", "20min or so", "nan s"])
def test_what_is_no_length_of_time_is_refused(text):
    with pytest.raises(InputError, match=r"budget: .*(budget=20min|out of range)"):
        seconds_of("budget", text)


@pytest.fixture
def paces(monkeypatch):
    """Let a probe give what is set here, by precision."""
    given = {"32-true": Pace(0.1, 1.0, 2.0, 50.0, None), "bf16-mixed": Pace(0.05, 1.0, 2.0, 50.0, None)}
    monkeypatch.setattr(budget, "_probe", lambda config, splits: given[config["trainer"]["precision"]])
    monkeypatch.setattr(budget, "native_bfloat16", lambda: True)
    return given


def test_the_steps_fill_the_budget(paces, compose, capsys):
    chosen = within_budget(compose(*WORDS, "budget=10min"), ())
    # 97 % of 600 s, less a validation and the test, by 0.1 s and a fiftieth of a validation.
    assert int((582 - 3) / 0.12) == 4825
    assert 4800 <= chosen["trainer"]["max_steps"] <= 4825  # a moment passes
    assert (chosen["trainer"]["max_epochs"], chosen["budget"]) == (-1, "10min")
    assert "10min is 4,8" in (said := capsys.readouterr().out)
    assert "steps of 100 ms with 32-true" in said


def test_the_quicker_precision_is_chosen_where_it_gains_and_none_was_typed(paces, compose):
    config = compose(*WORDS[:2], "accelerator=auto", "logger=none", "budget=10min")
    assert within_budget(config, ())["trainer"]["precision"] == "bf16-mixed"
    assert within_budget(config, ("trainer.precision=32-true",))["trainer"]["precision"] == "32-true"
    paces["bf16-mixed"] = paces["bf16-mixed"]._replace(step=0.09)
    assert within_budget(config, ())["trainer"]["precision"] == "32-true"


def test_a_budget_that_holds_nothing_is_refused(paces, compose):
    with pytest.raises(InputError, match=r"budget: 3s is shorter than one validation of 1\.0 s and the test of 2\.0 s"):
        within_budget(compose(*WORDS, "budget=3s"), ())


def test_what_is_not_trained_has_no_budget(paces, compose):
    with pytest.raises(InputError, match="budget: this model is not trained"):
        within_budget(compose("task=digits", "model=deep_image_prior", "budget=10min"), ())


@pytest.mark.parametrize("other", ["trainer.max_steps=5", "trainer.max_time=00:01:00:00"])
def test_only_one_key_ends_the_training(paces, compose, other):
    with pytest.raises(InputError, match=f"budget: .*{other.split('=')[0]}"):
        within_budget(compose(*WORDS, "budget=10min", other), ())


@pytest.mark.slow
def test_a_run_takes_the_steps_that_it_recorded(compose, tmp_path, capsys):
    train(compose(*WORDS, "budget=5s"), tmp_path, {})
    recorded = OmegaConf.to_container(OmegaConf.load(tmp_path / "config.yaml"))
    steps = recorded["trainer"]["max_steps"]
    said = capsys.readouterr().out
    assert f"budget: 5s is {steps:,} steps" in said
    assert steps > 10
    assert int((tmp_path / "metrics.csv").read_text().splitlines()[-1].split(",")[1]) == steps
    again = compose(*WORDS, "budget=5s")
    assert identity(recorded) == identity(again)  # a sweep finds the job again
    assert identity(recorded) != identity({**again, "budget": "6s"})
