"""Classical baselines, measured as any model is; nothing is trained."""

import difflib

import torch
from torch import Tensor, nn

from recon import metrics
from recon.baselines import METHODS
from recon.degradations.base import Degradation
from recon.errors import InputError
from recon.modules.base import Module
from recon.modules.outcome import Outcome
from recon.pair import Pair
from recon.training.options import Training


class BaselineModule(Module):
    """Restore by a classical method, see `recon.baselines`; the loss is the squared error.

    Args:
        method: its name, one of `recon.baselines.METHODS`.
        training: see `Module`; of no effect.

    Raises:
        InputError: there is no such method.
    """

    trains = False
    monitor = "val/psnr"
    mode = "max"

    def __init__(self, training: Training, method: str) -> None:
        if method not in METHODS:
            nearest = difflib.get_close_matches(str(method), METHODS, 1)
            raise InputError(f"method: there is no {method!r}; choose {nearest[0] if nearest else '|'.join(METHODS)}")
        super().__init__(METHODS[method](), training)

    def nets(self) -> tuple[nn.Module, ...]:
        """Return none: there is nothing to compile."""
        return ()

    def prepare_for(self, damage: Degradation) -> None:
        """Tell the method what the damage is, see `Module`."""
        super().prepare_for(damage)
        self.net.prepare_for(damage)  # type: ignore[operator]
        self.mildest = damage.level[0]

    def try_out(self, pair: Pair) -> Outcome:
        """Restore a blank image as one of a level that the damage has, see `Module`."""
        return self.step(pair._replace(severity=torch.full_like(pair.severity, self.mildest)))

    def predict(self, pair: Pair) -> Tensor:
        """Restore."""
        restored: Tensor = self.net(pair)
        return restored

    def step(self, pair: Pair) -> Outcome:
        """Restore and compare."""
        image = self.predict(pair)
        return Outcome(metrics.mse(image, pair.clean), image)
