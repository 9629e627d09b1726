"""What recon relies on in Lightning's inside: these fail when a new version changes it."""

from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from recon.training.lightning import FastCallback, FastModule, NoProfiler, set_between_steps


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
