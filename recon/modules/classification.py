"""Classification: recognise the degraded image."""

import torch.nn.functional as F
from torch import Tensor, nn

from recon import losses
from recon.modules.base import MakeOptimizer, MakeScheduler, Module, Outcome
from recon.nets.contracts import Classifier
from recon.pair import Pair
from recon.ranges import require_share


class ClassificationModule(Module):
    """Tell the class of the degraded image by softmax cross-entropy.

    Args:
        net: (B,C,H,W) -> (B,K) logits.
        num_classes: K.
        label_smoothing: share of the target that is spread over all classes (Szegedy et al. 2016), in [0,1).
        optimizer, scheduler, seed, l1, ema: see `Module`.

    Raises:
        InputError: a number out of its range.
    """

    contract = Classifier
    kind = "recognise"
    monitor = "val/accuracy"
    mode = "max"

    def __init__(
        self,
        net: nn.Module,
        num_classes: int,
        optimizer: MakeOptimizer,
        scheduler: MakeScheduler,
        seed: int,
        l1: float,
        ema: float,
        label_smoothing: float,
    ) -> None:
        super().__init__(net, optimizer, scheduler, seed, l1, ema)
        require_share("label_smoothing", label_smoothing)
        self._num_classes = num_classes
        self.label_smoothing = label_smoothing

    @property
    def num_classes(self) -> int:
        """How many classes the net tells apart."""
        return self._num_classes

    def forward(self, degraded: Tensor) -> Tensor:
        """Score the classes: (B,C,H,W) -> (B,K) logits."""
        logits: Tensor = self.active_net(self.like_weights(degraded))
        return logits

    def step(self, pair: Pair) -> Outcome:
        """Recognise and compare."""
        logits = self(pair.degraded)
        smoothing = self.label_smoothing if self.training else 0.0
        loss = F.cross_entropy(losses.wide(logits), pair.label, reduction="none", label_smoothing=smoothing)
        return Outcome(loss, logits=logits)
