"""Damage that grows over a training."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import QUICK, Compose, Typed
from lightning.pytorch import Trainer
from test_modules import QUIET, built

from recon.data.curriculum import operators
from recon.data.loader import Curriculum

NOISE = {"_target_": "recon.degradations.noise.GaussianNoise", "sigma": 0.5}
WORDS = ("model=classifier", "degradation=noise", "degradation.sigma=[0,0.5]", "curriculum=[0,[0,0.1],0.5]")


def test_each_level_has_an_equal_part_of_the_training() -> None:
    made = Curriculum(operators(NOISE, [0, [0.1, 0.2], "25/255"]), total=9, per_epoch=4)
    levels = [made.at(*divmod(step, 4)).level for step in range(10)]
    assert levels[:3] == [(0, 0)] * 3
    assert levels[3:6] == [(0.1, 0.2)] * 3
    assert levels[6:] == [pytest.approx((25 / 255, 25 / 255))] * 4
    assert operators(NOISE, None) == ()


def severities(compose: Compose, *words: str, **trainer: Any) -> list[torch.Tensor]:
    """The levels of each training batch of two epochs, and of the validation."""
    module, data = built(compose(*WORDS, "task=digits", "task.batch_size=256", "accelerator=cpu", *words))
    seen: list[torch.Tensor] = []
    step, check = module.training_step, module.validation_step
    module.training_step = lambda pair, batch_idx: (seen.append(pair.severity), step(pair, batch_idx))[1]  # type: ignore[method-assign]
    module.validation_step = lambda pair, batch_idx: (tested.append(pair.severity), check(pair, batch_idx))[1]  # type: ignore[method-assign]
    tested: list[torch.Tensor] = []
    Trainer(**{**QUIET, "max_epochs": 3, "max_steps": -1, **trainer}).fit(module, datamodule=data)
    assert torch.cat(tested).max() > 0.45, "the validation is under all of the damage"
    return seen


def test_a_training_goes_through_its_levels(compose: Compose) -> None:
    seen = severities(compose)
    assert len(seen) == 12
    assert (torch.cat(seen[:4]) == 0).all()
    middle = torch.cat(seen[4:8])
    assert 0 < middle.min() < 0.01 < 0.09 < middle.max() <= 0.1
    assert (torch.cat(seen[8:]) == 0.5).all()


def test_a_training_that_is_resumed_within_a_level_is_the_same(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    from recon.modules.classification import ClassificationModule

    quick = ("task.batch_size=256", "trainer.max_epochs=3", *QUICK[3:])
    assert typed(*WORDS, *quick, "hydra.run.dir=whole")[0] == 0
    step, taken = ClassificationModule.training_step, []

    def interrupt(self: ClassificationModule, pair: Any, batch_idx: int) -> Any:
        taken.append(batch_idx)
        if len(taken) == 7:
            raise KeyboardInterrupt
        return step(self, pair, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(ClassificationModule, "training_step", interrupt)
        assert typed(*WORDS, *quick, "checkpoint.steps=1", "hydra.run.dir=cut")[0] == 130
    status, _, errors = typed("resume=cut")
    assert status == 0, errors
    whole, cut = (torch.load(Path(name, "checkpoints/last.ckpt"), weights_only=True)["state_dict"]
                  for name in ("whole", "cut"))  # fmt: skip
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert "curriculum" in typed.refused("resume=cut", "curriculum=null")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("degradation=none", "curriculum=[0.1]"), "curriculum: this degradation has no single level"),
        (("degradation=noise", "curriculum=[0.1,2]"), "curriculum: at 2, degradation.sigma: levels are in [0,1]"),
        (("degradation=noise", "curriculum=0.5"), "curriculum: 0.5 does not fit; give a list of a number"),
        (("degradation=noise", "curriculum=[0.1,x]"), "curriculum: at x, degradation.sigma: 'x' does not fit"),
        (("degradation=downsample", "degradation.upsample=null", "curriculum=[1,2]"), "images are made 1 times"),
        (("degradation=noise", "curriculum=[0,0.5]", "trainer.max_epochs=-1", "trainer.max_time=00:00:00:01",
          "scheduler=constant"), "curriculum: levels one after the other span the whole training"),
    ],
)  # fmt: skip
def test_levels_that_make_no_sense_are_told(words: tuple[str, ...], says: str, typed: Typed) -> None:
    assert says in typed.refused("model=classifier", *words, *QUICK[1:])
