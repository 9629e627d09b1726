"""`action=train`: fit a model, test its best weights, record the run."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from recon import build
from recon.actions.evaluate import test
from recon.checkpoint import best_or_last, load_weights
from recon.console import say
from recon.data.datamodule import DataModule
from recon.modules.base import Module
from recon.run_folder import recorded


def train(config: build.Config, folder: Path, about: Mapping[str, Any]) -> dict[str, float]:
    """Train, validate and test as configured; leaves a whole run folder behind.

    Args:
        config: the resolved configuration.
        folder: the run folder.
        about: what else `environment.json` should say, such as the overrides.

    Returns:
        The metrics of `metrics.json`.
    """
    module, data, trainer, logger = build.run(config, folder)
    data.load()
    with recorded(folder, config, about, logger) as results:
        introduce(module, data, trainer)
        started = time.perf_counter()
        trainer.fit(module, datamodule=data)
        seconds = time.perf_counter() - started
        load_weights(module, best_or_last(folder))
        trainer.validate(module, datamodule=data, verbose=False)
        results |= module.summary
        results |= test(trainer, module, data, folder)
        results |= throughput(trainer, data, seconds)
    return results


def introduce(module: Module, data: DataModule, trainer: Trainer) -> None:
    """Say in two lines what is about to be trained, on what and where."""
    weights = sum(weight.numel() for weight in module.net.parameters())
    counts = "/".join(str(len(split)) for split in data.load())
    shape = "×".join(map(str, data.task.shape))
    batch = f"batch {data.task.batch_size}"
    device = f"{trainer.num_devices} × {trainer.strategy.root_device.type} {trainer.precision}"
    say(f"model: {type(module).__name__} with {type(module.net).__name__}, {weights:,} weights")
    say(f"data: {type(data.task).__name__} {shape}, {counts} training/validation/test images; {batch} on {device}")


def throughput(trainer: Trainer, data: DataModule, seconds: float) -> dict[str, float]:
    """Measure the fit as a whole, validation and checkpoints included."""
    batch = data.train_dataloader().batch_size
    batches = trainer.fit_loop.epoch_loop.total_batch_idx + 1
    return {"train/seconds": seconds, "train/images_per_second": batches * batch / seconds}
