"""Diffusion and flow matching: images are made from noise in small steps, each learned by regression."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from recon import keyed
from recon.errors import InputError
from recon.modules.generating import GeneratingModule
from recon.modules.outcome import Outcome
from recon.nets.contracts import Guided
from recon.pair import Pair
from recon.ranges import require_number, require_share, require_whole
from recon.training.options import Training


class FlowModule(GeneratingModule):
    """Flow matching along straight lines (Lipman et al., ICLR 2023; Liu et al., "Rectified flow", ICLR 2023).

    At time t an image x and noise n are mixed to (1 - t)·n + t·x; the net predicts the velocity x - n, which Euler
    steps from t = 0 to 1 follow. Images lie in [-1,1] here.

    Args:
        net: (B,C,H,W), time (B,) in [0,1], label (B,) or -1 -> (B,C,H,W).
        training: see `Module`.
        steps: of the sampler, each one use of the net, or two with guidance.
        guidance: how far the prediction is led away from that without label (Ho & Salimans 2022): 1 is not at all.
        drop_label: share of the training images whose label is hidden, which guidance needs, in [0,1).

    Raises:
        InputError: a number out of its range, or guidance for a net without labels.
    """

    contract = Guided
    monitor = "val/loss"

    def __init__(
        self, net: nn.Module, training: Training, steps: int = 20, guidance: float = 1.0, drop_label: float = 0.1
    ) -> None:
        super().__init__(net, training)
        require_whole("steps", steps, 1, 10_000)
        require_number("guidance", guidance, 0, 100)
        require_share("drop_label", drop_label)
        self.steps, self.guidance, self.drop_label = steps, guidance, drop_label
        if guidance != 1 and not (self._is_conditional and drop_label):
            why = "hides no labels in training (drop_label=0)" if self._is_conditional else "uses no labels"
            raise InputError(f"model.guidance: {guidance} leads away from what is made without label, and this model "
                             f"{why}; leave it at 1")  # fmt: skip

    @property
    def _is_conditional(self) -> bool:
        return bool(getattr(self.net, "num_classes", 0))

    # Between image and noise ---------------------------------------------------------------------------------------

    def mixed(self, image: Tensor, noise: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """Mix images in [-1,1] with noise (B,C,H,W) at times (B,1,1,1); return that and what the net should predict."""
        return torch.lerp(noise, image, time), image - noise

    def advanced(self, x: Tensor, predicted: Tensor, time: float, until: float) -> Tensor:
        """Go from one time to a later one by what the net predicted of (B,C,H,W)."""
        return x + (until - time) * predicted

    # What a module does --------------------------------------------------------------------------------------------

    def step(self, pair: Pair) -> Outcome:
        """Mix each image with noise at a drawn time; a test also makes images."""
        clean = 2 * pair.clean - 1
        noise = keyed.normal(self.keys(pair, "noise"), tuple(clean.shape[1:]))
        time = keyed.uniform(self.keys(pair, "time"))
        hidden = keyed.uniform(self.keys(pair, "label")) < (self.drop_label if self.training else 0)
        mixed, wanted = self.mixed(clean, noise, time.view(-1, 1, 1, 1))
        predicted = self.active_net(self.like_weights(mixed), time, pair.label.where(~hidden, -1))
        loss = (predicted.float() - wanted).square().mean((1, 2, 3))
        if self._trainer is None or not self._trainer.testing or self.options.judge is None:
            return Outcome(loss)  # to make images takes many times as long
        return Outcome(loss, columns=self.looked_at(self.generate(self.keys(pair, "latent"), pair.label), pair))

    def latents(self, keys: Tensor) -> Tensor:
        """Draw the noise that an image begins as, for each key: (B,) -> (B,C·H·W)."""
        return keyed.normal(keys, (self.facts["channels"] * math.prod(self.facts["image_size"]),))

    def from_latents(self, z: Tensor, label: Tensor) -> Tensor:
        """Make images of noise (B,C·H·W) and labels (B,) int64: (B,C,H,W) in [0,1]."""
        x = z.view(-1, self.facts["channels"], *self.facts["image_size"])
        for step in range(self.steps):
            time, until = step / self.steps, (step + 1) / self.steps
            x = self.advanced(x, self._predicted(x, time, label), time, until)
        return ((x + 1) / 2).clamp(0, 1)

    def _predicted(self, x: Tensor, time: float, label: Tensor) -> Tensor:
        """Ask the net, with its guidance."""
        net, moment = self.active_net, torch.full_like(label, time, dtype=torch.float32)
        predicted: Tensor = net(self.like_weights(x), moment, label)
        if self.guidance != 1:
            free = net(self.like_weights(x), moment, torch.full_like(label, -1))
            predicted = free + self.guidance * (predicted - free)
        return predicted.float()


class DiffusionModule(FlowModule):
    """Denoising diffusion with the cosine schedule, sampled as DDIM does (Nichol & Dhariwal 2021; Song et al. 2021).

    At time t the image has the weight sin(πt/2) and the noise cos(πt/2), so that time runs from noise to image as in
    `FlowModule`. The net predicts the velocity cos(πt/2)·x - sin(πt/2)·n (Salimans & Ho 2022), of which both follow at
    any time. The arguments are those of `FlowModule`.
    """

    def mixed(self, image: Tensor, noise: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """Mix images in [-1,1] with noise (B,C,H,W) at times (B,1,1,1); return that and what the net should predict."""
        sin, cos = (time * math.pi / 2).sin(), (time * math.pi / 2).cos()
        return sin * image + cos * noise, cos * image - sin * noise

    def advanced(self, x: Tensor, predicted: Tensor, time: float, until: float) -> Tensor:
        """Take the image and the noise that follow from what the net predicted, and mix them for the later time."""
        sin, cos = math.sin(time * math.pi / 2), math.cos(time * math.pi / 2)
        image, noise = (sin * x + cos * predicted).clamp(-1, 1), cos * x - sin * predicted
        return math.sin(until * math.pi / 2) * image + math.cos(until * math.pi / 2) * noise
