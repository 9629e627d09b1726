"""A run that was stopped, killed or cut off goes on to the very weights and numbers of one that never was."""

import csv
import hashlib
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Compose

from recon import interrupt
from recon.actions.train import train
from recon.checkpoint import load
from recon.errors import Interrupted

# Six steps an epoch, three epochs.
QUICK = (
    "trainer.max_epochs=3",
    "trainer.limit_train_batches=6",
    "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=1",
    "trainer.enable_progress_bar=false",
    "trainer.log_every_n_steps=4",
    "accelerator=cpu",
    "logger=none",
    "task.batch_size=16",
)
CASES = {
    "dropout, batch norm": ["model=classifier", "model/net=cnn"],
    "schedule by step": ["model=restoration", "scheduler=one_cycle", "model/net=dncnn", "model.net.depth=3"],
    "schedule by epoch": ["model=autoencoder", "scheduler=step", "scheduler.step_size=1", "optimizer=momentum"],
    "schedule by metric": ["model=autoencoder", "scheduler=plateau", "scheduler.patience=0", "optimizer.lr=0.1"],
    "two optimisers, average": ["model=gan", "model.net.dropout=0.2", "scheduler=cosine"],
    "gradient penalty": ["model=gan", "model.gradient_penalty=10", "model.net.norm=none", "scheduler=step"],
    "plateau by hand": ["model=inpainting", "model.adversarial=0.01", "scheduler=plateau", "model.net.widths=[8,16]"],
    "average, drawn codes": ["model=vae", "model.ema=0.9"],
    "bfloat16": ["model=restoration", "accelerator=cpu_bf16", "model.net.widths=[8,16]", "augment=crop_flip"],
    "accumulation": ["model=autoencoder", "trainer.accumulate_grad_batches=2"],
    "validation within the epoch": ["model=autoencoder", "trainer.val_check_interval=2"],
    "validation every other epoch": ["model=autoencoder", "trainer.check_val_every_n_epoch=2", "scheduler=plateau"],
    "without validation": ["model=autoencoder", "trainer.limit_val_batches=0"],
    "steps": ["model=gan", "trainer.max_epochs=100", "trainer.max_steps=15"],
    "early stopping": ["model=classifier", "early_stopping=1", "optimizer.lr=1e-7"],
}


class Stop:
    """Stands for a signal that comes before a certain step."""

    def __init__(self) -> None:
        self.after = -1

    def __call__(self) -> int:
        self.after -= 1
        return signal.SIGTERM if self.after == -1 else 0


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Stop:
    stands_in = Stop()
    monkeypatch.setattr(interrupt, "asked", stands_in)
    return stands_in


def digest(value: Any) -> str:
    """Hash whatever a checkpoint holds, to the last bit."""
    if isinstance(value, torch.Tensor):
        data = value.contiguous().flatten().view(torch.uint8).numpy().tobytes() if value.ndim else repr(value.item())
        return hashlib.sha256(f"{value.dtype} {(*value.shape,)}".encode() + str(data).encode()).hexdigest()
    if isinstance(value, dict):
        return hashlib.sha256(repr([(key, digest(inner)) for key, inner in value.items()]).encode()).hexdigest()
    if isinstance(value, list | tuple):
        return hashlib.sha256(repr([digest(inner) for inner in value]).encode()).hexdigest()
    return repr(value)


def outcome(folder: Path) -> dict[str, Any]:
    """All that a run came to, but for times."""
    last = load(folder / "checkpoints" / "last.ckpt")
    timed = ("train/seconds", "train/images_per_second", "cost/latency_ms", "cost/megapixels_per_second")
    table = list(csv.DictReader((folder / "metrics.csv").open()))
    return {
        **{part: digest(last[part]) for part in ("state_dict", "optimizer_states", "lr_schedulers", "losses")},
        "best": digest(load(folder / "checkpoints" / "best.ckpt")["state_dict"]),
        "metrics": {k: v for k, v in json.loads((folder / "metrics.json").read_text()).items() if k not in timed},
        "table": [{k: v for k, v in row.items() if k != "seconds"} for row in table],
        "images": (folder / "per_image.csv").read_text(),
    }


@pytest.mark.parametrize("case", CASES)
def test_a_stopped_run_goes_on_exactly(case: str, compose: Compose, stop: Stop, tmp_path: Path) -> None:
    config = compose(*QUICK, *CASES[case])
    train(config, tmp_path / "whole", {})
    expected = outcome(tmp_path / "whole")
    # In the midst of an epoch, before its last step, before the first of the next; then once more.
    for place in (1, 2, 3) if case == "accumulation" else (3, 5, 6, 8):
        folder = tmp_path / str(place)
        stop.after = place
        with pytest.raises(Interrupted):
            train(config, folder, {})
        assert json.loads((folder / "environment.json").read_text())["status"] == "interrupted"
        stop.after = 2
        with pytest.raises(Interrupted):
            train({**config, "resume": str(folder)}, folder, {})
        train({**config, "resume": str(folder)}, folder, {})
        for part, value in expected.items():
            assert outcome(folder)[part] == value, f"{part}, stopped before step {place}"
