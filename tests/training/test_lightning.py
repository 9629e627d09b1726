"""What recon relies on in Lightning's inside: these fail when a new version changes it."""

from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR

from recon.training.lightning import FastCallback, FastModule, FastTrainer, NoProfiler, set_between_steps


class Line(FastModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.names: set[Any] = set()

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.names.add(self._current_fx_name)
        return self.layer(batch).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Counting(FastCallback):
    ended = 0

    def on_train_epoch_end(self, *_: Any) -> None:
        self.ended += 1


@pytest.mark.parametrize("clips", [False, True])
def test_hooks_that_are_none_are_skipped(clips: bool) -> None:
    module, callback = Line(), Counting()
    if not clips:
        module.leave_gradients()
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[callback], profiler=NoProfiler(),
        gradient_clip_val=1.0 if clips else None,
    )  # fmt: skip
    before = module.layer.weight.detach().clone()
    trainer.fit(module, torch.utils.data.DataLoader(torch.ones(4, 1), batch_size=2))
    assert trainer.global_step == 2
    assert callback.ended == 1
    assert module.names == {"training_step"}
    assert not torch.equal(before, module.layer.weight)


def test_the_counters_are_those_that_lightning_saves() -> None:
    trainer = Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    loop = trainer.fit_loop.state_dict() | {
        f"epoch_loop.{name}": value
        for name, value in (("batch_progress", trainer.fit_loop.epoch_loop.batch_progress.state_dict()),)
    }
    set_between_steps(loop)
    assert loop["epoch_loop.batch_progress"]["current"]["ready"] == 0
    assert "_batches_that_stepped" in trainer.fit_loop.epoch_loop.on_save_checkpoint()


class Net(FastModule):
    """A training that tells what is done to it, with a schedule of a kind and losses that it logs."""

    def __init__(self, schedule: str, clips: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(), torch.nn.Linear(4, 1))
        self.schedule = schedule
        self.rates: list[float] = []
        self.validated: list[int] = []
        if not clips:
            self.leave_gradients()

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> dict[str, torch.Tensor] | None:
        self.log("loss", loss := (self.layers(batch.to(self.dtype)) - 1).square().mean())
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return {"loss": loss, "more": loss.detach() + 1} if batch_idx != 3 else None

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.validated.append(self.trainer.global_step)
        self.log("val", self.layers(batch.to(self.dtype)).mean())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.1)
        schedules = {
            "step": {"scheduler": StepLR(optimizer, 2, 0.5), "interval": "step"},
            "epoch": {"scheduler": StepLR(optimizer, 1, 0.5), "interval": "epoch"},
            "plateau": {"scheduler": ReduceLROnPlateau(optimizer, patience=0), "monitor": "val"},
        }
        return {"optimizer": optimizer} | ({"lr_scheduler": schedules[self.schedule]} if self.schedule else {})


class Heard(FastCallback):
    """Keep the outputs of steps."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
        self.heard.append({name: float(value) for name, value in (outputs or {}).items()})


class Within(Callback):
    """Keep the gradients' norms, which it reads within each step."""

    def __init__(self) -> None:
        self.norms: list[float] = []

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        self.norms += [float(weight.grad.norm()) for weight in module.parameters() if weight.grad is not None]


CASES: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "alone": ("", True, {}),
    "a schedule of steps": ("step", True, {}),
    "a schedule of epochs": ("epoch", True, {}),
    "a plateau": ("plateau", True, {"val_check_interval": 2}),
    "validation in every second epoch": ("epoch", True, {"check_val_every_n_epoch": 2}),
    "bfloat16": ("", True, {"precision": "bf16-mixed"}),
    "doubles": ("", False, {"precision": "64-true"}),
    "clipped": ("step", False, {"gradient_clip_val": 0.1}),
    "accumulated": ("step", False, {"accumulate_grad_batches": 2}),
    "a hook within": ("", False, {"callbacks": Within}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_fast_trainer_does_what_lightnings_does(name: str) -> None:
    schedule, alone, settings = CASES[name]
    done: list[Any] = []
    images = torch.linspace(-1, 1, 30).view(10, 3)
    for kind, own in ((FastTrainer, {}), (Trainer, {"profiler": NoProfiler()})):
        heard, extra = Heard(), [made() for made in [settings.get("callbacks")] if made]
        module = Net(schedule, "gradient_clip_val" in settings)
        common = {
            "max_epochs": 3, "accelerator": "cpu", "logger": False, "enable_checkpointing": False,
            "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0,
        }  # fmt: skip
        trainer = kind(**common | settings | {"callbacks": [heard, *extra]} | own)
        loader = torch.utils.data.DataLoader(images, batch_size=2)
        trainer.fit(module, loader, loader)
        loop = trainer.fit_loop.epoch_loop
        if kind is FastTrainer:
            assert loop.automatic_optimization.is_alone is alone or settings.get("accumulate_grad_batches")
        done.append((
            [weight.tolist() for weight in module.parameters()], module.rates, module.validated, heard.heard,
            trainer.global_step, loop._batches_that_stepped, trainer.current_epoch, [each.norms for each in extra],
            float(trainer.callback_metrics["loss"]),
        ))  # fmt: skip
    assert done[0] == done[1]
    assert done[0][4] > 5
