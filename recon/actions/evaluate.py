"""`action=evaluate run=<folder>`: test a trained model again, on its own terms or on others."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only

from recon import build
from recon.actions.base import Action
from recon.config.check import Config
from recon.console import say
from recon.dashboards import threaded
from recon.data.datamodule import DataModule
from recon.modules.base import Module
from recon.report.naming import degradation
from recon.runs import RunFolder, files
from recon.runs.checkpoint import best_or_last, load_weights
from recon.runs.record import recorded
from recon.streams import printable
from recon.training.trainer import check_lengths
from recon.training.trial import require_smallest


class Evaluate(Action):
    """Test the best weights of a run.

    Args:
        run: its folder.
    """

    needs_run = True
    refuses = (
        "model", "model/net", "model/loss", "model/quantiser", "optimizer", "scheduler", "recipe", "augment",
        "experiment",
    )  # fmt: skip
    refusal = "an evaluation tests the run's own model as it was trained"

    def __init__(self, run: str | int | None) -> None: ...

    def __call__(self, config: Config, folder: Path, about: Mapping[str, Any]) -> dict[str, float]:
        """Test."""
        return evaluate(config, folder, about)


def evaluate(config: Config, folder: Path, about: Mapping[str, Any]) -> dict[str, float]:
    """Test the best weights of a run; leaves a run folder with the metrics, images and each image's values.

    Args:
        config: the configuration of that run, with whatever the user wants otherwise, such as another degradation;
            `run` is its folder.
        folder: the folder of this evaluation.
        about: what else `environment.json` should say.

    Returns:
        The metrics of `metrics.json`.
    """
    module, data, trainer, loggers = build.run(config, folder)
    load_weights(module, best_or_last(Path(config["run"])))
    module.read_more(Path(config["run"]))
    require_smallest(module, data)
    check_lengths(trainer, data, training=False)
    with recorded(folder, config, about, loggers) as results:
        introduce(module, data, trainer, folder, test_alone=True)
        results |= test(trainer, module, data, folder)
        results.describe(module)
    return results


@rank_zero_only
def introduce(module: Module, data: DataModule, trainer: Trainer, folder: Path, test_alone: bool = False) -> None:
    """Say in two lines what is about to be trained or tested, on what images with what damage, and where."""
    weights = sum(weight.numel() for weight in module.net.parameters())
    splits = data.load()
    images = (
        f"{len(splits.test)} test" if test_alone else f"{'/'.join(map(str, map(len, splits)))} training/validation/test"
    )
    shape = "×".join(map(str, data.task.shape))
    device = f"{trainer.num_devices} × {trainer.strategy.root_device.type} {trainer.precision}"
    say(f"model: {type(module).__name__} with {type(module.net).__name__}, {weights:,} weights")
    say(
        f"data: {type(data.task).__name__} {shape}, {images} images; batch {data.task.batch_size} on {device}; "
        f"degradation {degradation(RunFolder(folder))}"
    )


def test(trainer: Trainer, module: Module, data: DataModule, folder: Path) -> dict[str, float]:
    """Test a module and write what each image gave: `per_image.csv` and, for classes, the confusion matrix."""
    trainer.test(module, datamodule=data, verbose=False)
    _write_results(module, data, folder)
    return module.summary


@rank_zero_only
def _write_results(module: Module, data: DataModule, folder: Path) -> None:
    test, index = data.load().test, module.results["index"].numpy()
    texts = {} if test.names is None else {"file": list(map(printable, test.names[index]))}
    if test.sets:
        sets = np.repeat(list(test.sets), list(test.sets.values()))
        texts = {"set": sets[index].tolist(), **texts}
    files.write_columns(folder / "per_image.csv", module.results, **texts)
    for name, artifact in module.artifacts(module.results).items():
        if isinstance(artifact, list):
            files.write_csv(folder / f"{name}.csv", artifact)
            continue
        files.write_image(folder / f"{name}.png", artifact)
        for logger in module.trainer.loggers:
            threaded.log_image(logger, name, artifact, module.trainer.global_step)
