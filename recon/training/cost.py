"""What a trained net costs: its weights, its time for one image, how much it works on in a second."""

import statistics
import time
from collections.abc import Callable

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from recon.modules.base import Module
from recon.training.lightning import FastCallback

_SECONDS = 0.1  # each figure is measured for so long, after a warm-up
_LARGEST = 512  # larger images are cut to this side
_PIXELS = 1 << 18  # a batch holds no more


class Cost(FastCallback):
    """Measure the cost after a test and add it to the module's summary, in the first process alone.

    It is measured here, while the weights still lie on the device that tested them.
    """

    @rank_zero_only
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add "cost/parameters", "cost/latency_ms" and "cost/megapixels_per_second"."""
        assert isinstance(pl_module, Module)
        module, loader = pl_module, trainer.datamodule.test_dataloader()  # type: ignore[attr-defined]
        parameters = sum(weight.numel() for weight in module.averaged_net.parameters() if weight.requires_grad)
        module.summary["cost/parameters"] = float(parameters)
        if not module.one_pass:
            return
        one = loader.preview(1, largest=_LARGEST).pair
        count = max(1, min(loader.batch_size, _PIXELS // one.clean[0, 0].numel()))
        several = loader.preview(count, largest=_LARGEST).pair
        # A new batch size would recompile the net for seconds.
        eager = torch.compiler.set_stance("eager_on_recompile")
        with eager, torch.inference_mode(), trainer.precision_plugin.forward_context():
            latency = median_seconds(lambda: module.predict(one))
            batch = median_seconds(lambda: module.predict(several))
        module.summary |= {
            "cost/latency_ms": 1000 * latency,
            "cost/megapixels_per_second": several.clean[:, 0].numel() / 1e6 / batch,
        }


def median_seconds(work: Callable[[], Tensor], seconds: float | None = None) -> float:
    """Time some work: the median over at least three repetitions and about `seconds`, after a warm-up."""
    taken: list[float] = []
    _finished(work())
    until = time.perf_counter() + (_SECONDS if seconds is None else seconds)
    while len(taken) < 3 or time.perf_counter() < until:
        started = time.perf_counter()
        _finished(work())
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def _finished(result: Tensor) -> None:
    """Wait until the device has made a result: reading a number of it does."""
    result.flatten()[:1].tolist()
