"""Deep image prior: restore an image by a net that is fitted to it alone."""

import copy
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from recon import keyed
from recon.console import say
from recon.degradations.base import Degradation
from recon.errors import InputError
from recon.metrics.sure import probe, psnr_of, risk
from recon.modules.base import Module
from recon.modules.outcome import Outcome
from recon.nets.contracts import AnySizeRestorer
from recon.pair import Pair
from recon.ranges import require_number, require_whole
from recon.training.options import Training

NOISE_CHANNELS = 32  # of the net's input, as in the paper, and so are its width and the decay of the average
_WIDTH = 0.1
_DECAY = 0.99
# The probe's length as a share of sigma. Two fits part by themselves, as steps of an optimiser amplify all differences:
# a probe much shorter than the noise would be lost in that.
_STEP = 0.3
_EVERY = 25  # steps between two estimates
_SECONDS_BETWEEN_LINES = 30.0


class Restored(NamedTuple):
    """What a net that was fitted to one image gave.

    Attributes:
        image: (C,H,W).
        steps: after so many steps.
        error: its mean squared error by Stein's estimate, or infinity where there is none.
    """

    image: Tensor
    steps: int
    error: float


class DeepImagePriorModule(Module):
    """Restore each image by a net that is fitted to it alone, from noise (Ulyanov, Vedaldi & Lempitsky, CVPR 2018).

    There is no training: of each test image, fresh weights learn to make it from an input of noise, on known pixels
    alone; the result is the moving average of what the net gives. It fills holes. With Gaussian noise alone the best
    step is that of the lowest risk by Stein's estimate (as Jo, Chun & Choi, "Rethinking deep image prior for
    denoising", ICCV 2021), without the clean image. The divergence is that of the whole fit, as Ramani et al. (2008)
    take it of any iterative method: a second net is fitted in the same way to the image that is moved along a probe.
    With other damage the fit takes all its steps, and how many are right is up to whoever sets them.

    All draws depend on the image's key alone, and everything is computed in float32.

    Args:
        net: (B,C+32,H,W) -> (B,C,H,W). The first C channels are 0, so that a net that learns a difference adds nothing.
        training: see `Module`; its optimiser is that of each fit, with a constant learning rate.
        steps: the most steps of a fit.
        patience: a fit stops after so many steps without a lower estimate of its error.
        jitter: standard deviation of the noise that is added to the input anew at each step, at least 0.

    Raises:
        InputError: a number out of its range.
    """

    contract = AnySizeRestorer
    trains = False
    one_pass = False
    monitor = None

    def __init__(self, net: nn.Module, training: Training, steps: int, patience: int, jitter: float) -> None:
        super().__init__(net, training)
        require_whole("steps", steps)
        require_whole("patience", patience)
        require_number("jitter", jitter)
        self.steps, self.patience, self.jitter = steps, patience, jitter
        self._done: dict[int, tuple[Tensor, Restored]] = {}  # by index: the degraded image, and what became of it

    @staticmethod
    def in_channels(channels: int, settings: Mapping[str, Any]) -> int:
        """The image's channels, which are 0, and those of noise."""
        return channels + NOISE_CHANNELS

    def prepare_for(self, damage: Degradation) -> None:
        """Refuse smaller images, see `Module`."""
        super().prepare_for(damage)
        if damage.scale != 1:
            raise InputError(
                f"degradation: it makes images {damage.scale} times smaller, and model=deep_image_prior does not "
                "make them large again; choose degradation=noise|missing, or set degradation.upsample=bicubic"
            )

    def forward(self, degraded: Tensor) -> Tensor:
        """Fit a net to each of some images without holes: (B,C,H,W) to (B,C,H,W)."""
        return self.predict(Pair.of(degraded))

    def predict(self, pair: Pair) -> Tensor:
        """Fit a net to each image."""
        return torch.stack([fit.image for fit in self._fits(pair)]).to(pair.degraded.device)

    def try_out(self, pair: Pair) -> Outcome:
        """Use the net once, and fit nothing."""
        image = self.net(self.like_weights(_input(self.keys(pair, "image"), pair.degraded)))
        return Outcome(image.mean((1, 2, 3)), image)

    def step(self, pair: Pair) -> Outcome:
        """Fit a net to each image; the loss is what is left of it on known pixels."""
        fits, device = self._fits(pair), pair.degraded.device
        image = torch.stack([fit.image for fit in fits]).to(device)
        columns = {"fitted_steps": torch.tensor([float(fit.steps) for fit in fits], device=device)}
        if self.gaussian:
            error = torch.tensor([fit.error for fit in fits], device=device)
            columns["psnr_sure"] = psnr_of(error, pair.severity, image[0].numel())
        return Outcome(_loss(image, pair.degraded.float(), pair.mask), image, columns=columns)

    def estimates(self, image: Tensor, pair: Pair) -> dict[str, Tensor]:
        """Add nothing: `step` records the estimate that ended the fit."""
        return {}

    def _fits(self, pair: Pair) -> list[Restored]:
        """Fit a net to each image, one after another; what the test has fitted is known to its pictures."""
        fits = []
        for number, key in enumerate(self.keys(pair, "image").split(1)):
            one = Pair(*(part[number : number + 1] for part in pair))
            index, degraded = int(one.index), one.degraded[0].cpu()
            found = _window(*self._done[index], degraded) if index in self._done else None
            if found is None:
                found = self._fit(one, key)
                self._done[index] = (degraded, found)
            fits.append(found)
        return fits

    # The values of an evaluation take no part in gradients, but each image is a training.
    @torch.inference_mode(False)
    @torch.enable_grad()
    def _fit(self, one: Pair, key: Tensor) -> Restored:
        """Fit a net to an image, and return its best state."""
        degraded, mask, sigma = (part.clone().float() for part in (one.degraded, one.mask, one.severity))
        signs = probe(keyed.fold(key, "probe"), tuple(degraded.shape[1:]))
        length = _STEP * float(sigma.clamp(min=1e-3))
        targets = [degraded, degraded + length * signs] if self.gaussian else [degraded]
        progress = _Progress(int(one.index), self.steps)
        with torch.autocast(degraded.device.type, enabled=False):
            fits = [_Fit(self._fresh(key), self.options.optimizer, target, mask) for target in targets]
            noise = _input(key, degraded)
            best = Restored(degraded[0].cpu(), 0, math.inf)
            for step in range(1, self.steps + 1):
                seen = self._jittered(noise, key, step)
                for fit in fits:
                    fit.step(seen)
                if self.gaussian and (step % _EVERY == 0 or step == self.steps):
                    image, other = (fit.image.clamp(0, 1) for fit in fits)
                    error = float(risk(image, degraded, sigma, (signs * (other - image)).mean((1, 2, 3)) / length))
                    if error < best.error:
                        best = Restored(image[0].cpu(), step, error)
                    elif step - best.steps >= self.patience:
                        break
                progress.show(step, best.error)
        best = best if self.gaussian else Restored(fits[0].image[0].cpu(), self.steps, math.inf)
        progress.end(best)
        return best

    def _fresh(self, key: Tensor) -> nn.Module:
        """Return a net with fresh weights by a key: those that the net began with, each layer's in another order.

        So they are of the law of the net's own initial weights, whatever that is, on any device.
        """
        net = copy.deepcopy(self.net).float().train().requires_grad_(True)
        with torch.no_grad():
            for name, weight in net.named_parameters():
                order = keyed.bits(keyed.fold(key, name), weight.numel())[0].argsort(stable=True)
                weight.copy_(weight.flatten()[order].view_as(weight))
        return net

    def _jittered(self, noise: Tensor, key: Tensor, step: int) -> Tensor:
        """Add noise of this step to the input."""
        moved = self.jitter * keyed.normal(keyed.fold(key, f"step {step}"), (NOISE_CHANNELS, *noise.shape[2:]))
        return torch.cat([noise[:, :-NOISE_CHANNELS], noise[:, -NOISE_CHANNELS:] + moved], dim=1)


class _Fit:
    """A net that is being fitted to one image, and the moving average (1,C,H,W) of what it gives."""

    def __init__(self, net: nn.Module, optimizer: Callable[..., Optimizer], target: Tensor, mask: Tensor) -> None:
        self.net, self.target, self.mask = net, target, mask
        self.optimizer = optimizer(net.parameters())
        self.image = torch.zeros_like(target)
        self.steps = 0

    def step(self, seen: Tensor) -> None:
        """Take a step."""
        image = self.net(seen)
        self.optimizer.zero_grad()
        _loss(image, self.target, self.mask).sum().backward()
        self.optimizer.step()
        self.steps += 1
        # It rises, so that the average soon forgets the first images.
        self.image.lerp_(image.detach(), 1 - min(_DECAY, (self.steps - 1) / (self.steps + 9)))


class _Progress:
    """Say how far a fit is, every 30 seconds, and what it came to."""

    def __init__(self, index: int, steps: int) -> None:
        self.name, self.steps = f"image {index}", steps
        self._said = time.monotonic()

    def show(self, step: int, error: float) -> None:
        """Say how far it is, where it is time to."""
        if time.monotonic() - self._said > _SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            say(f"{self.name}: step {step:,}/{self.steps:,}{self._quality(error)}")

    def end(self, best: Restored) -> None:
        """Say what it came to."""
        say(f"{self.name}: restored after {best.steps:,} steps{self._quality(best.error)}")

    @staticmethod
    def _quality(error: float) -> str:
        return f", PSNR by SURE {-10 * math.log10(max(error, 1e-10)):.2f} dB" if math.isfinite(error) else ""


def _input(key: Tensor, degraded: Tensor) -> Tensor:
    """Make the input of nets for images (B,C,H,W) by their keys (B,): (B,C+32,H,W), C channels of 0 and noise."""
    noise = keyed.uniform(keyed.fold(key, "input"), (NOISE_CHANNELS, *degraded.shape[2:]))
    return torch.cat([torch.zeros_like(degraded, dtype=noise.dtype), noise * _WIDTH], dim=1)


def _loss(image: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Average the squared error over the known pixels of each image: (B,)."""
    known = mask.expand_as(target)
    return ((image - target).square() * known).sum((1, 2, 3)) / known.sum((1, 2, 3)).clamp(min=1)


def _window(whole: Tensor, restored: Restored, part: Tensor) -> Restored | None:
    """Cut what was restored to where `part` (C,h,w) is in the degraded `whole` (C,H,W); None where it is not."""
    height, width = part.shape[1:]
    rows, columns = (whole.shape[side] - part.shape[side] + 1 for side in (1, 2))
    corners = (whole[0, : max(rows, 0), : max(columns, 0)] == part[0, 0, 0]).nonzero().tolist()
    for top, left in corners:
        place = (slice(None), slice(top, top + height), slice(left, left + width))
        if torch.equal(whole[place], part):
            return restored._replace(image=restored.image[place])
    return None
