"""Training without clean images: a net learns to denoise from noisy images alone."""

from torch import nn

from recon.degradations.base import Degradation
from recon.errors import InputError
from recon.losses import BlindLoss, Neighbor2Neighbor, Noise2Void, SureLoss
from recon.modules.base import Module
from recon.modules.outcome import Outcome
from recon.nets.contracts import AnySizeRestorer
from recon.pair import Pair
from recon.training.options import Training


class SelfSupervisedModule(Module):
    """Learn to denoise without clean images; these are used by nothing but the measures of an evaluation.

    The best weights are those of the lowest loss on the noisy validation images: Stein's estimate of the squared error
    where the noise is Gaussian, else the loss of the training, of neighbor2neighbor without its second term, which
    follows the net and so says nothing about two nets. What each method supposes of the noise:

    - neighbor2neighbor: of mean 0 and independent from pixel to pixel (Huang et al., CVPR 2021).
    - noise2void: the same (Krull et al., CVPR 2019).
    - sure: white and Gaussian, of the sigma that `pair.severity` holds (Soltanayev & Chun, NeurIPS 2018).

    Args:
        net: (B,C,H,W) -> (B,C,H,W), for images of any size.
        training: see `Module`.
        method: "neighbor2neighbor", "noise2void" or "sure".
        gamma: see `losses.Neighbor2Neighbor`.
        cell: see `losses.Noise2Void`.
        radius: see `losses.Noise2Void`.

    Raises:
        InputError: an unknown method, or a number out of its range.
    """

    contract = AnySizeRestorer
    monitor = "val/loss"
    mode = "min"

    def __init__(self, net: nn.Module, training: Training, method: str, gamma: float, cell: int, radius: int) -> None:
        super().__init__(net, training)
        methods: dict[str, BlindLoss] = {
            "neighbor2neighbor": Neighbor2Neighbor(gamma),
            "noise2void": Noise2Void(cell, radius),
            "sure": SureLoss(),
        }
        if method not in methods:
            raise InputError(f"method: {method!r} is unknown; choose model.method={'|'.join(methods)}")
        self.method = method
        self.blind_loss = methods[method]
        self.validation_loss = methods[method] if method != "neighbor2neighbor" else Neighbor2Neighbor(0.0)

    def prepare_for(self, damage: Degradation) -> None:
        """Refuse smaller images, and for "sure" all but Gaussian noise, see `Module`."""
        super().prepare_for(damage)
        if damage.scale != 1:
            raise InputError(
                f"degradation: it makes images {damage.scale} times smaller, and model=self_supervised only "
                "removes noise; choose degradation=noise, or model=restoration with model/net=edsr"
            )
        if self.method == "sure" and not damage.gaussian:
            raise InputError(
                "model.method: sure needs Gaussian noise of known sigma alone; choose degradation=noise, or "
                "model.method=neighbor2neighbor|noise2void for other noise of mean 0"
            )
        if damage.gaussian:
            self.validation_loss = SureLoss()

    def step(self, pair: Pair) -> Outcome:
        """Compute the loss of the noisy images alone, and restore them where an evaluation measures that."""
        blind_loss = self.blind_loss if self.training else self.validation_loss
        loss = blind_loss(self, pair.degraded, pair.severity, self.keys(pair, "blind"))
        return Outcome(loss, None if self.training else self(pair.degraded))
