"""Residual generator and discriminator: without norm as in R3GAN, or with the norms of SNGAN.

Huang, Gokaslan, Kuleshov & Tompkin, "The GAN is dead; long live the GAN! A modern baseline GAN", NeurIPS 2024; Miyato,
Kataoka, Koyama & Yoshida, "Spectral normalization for generative adversarial networks", ICLR 2018; Miyato & Koyama,
"cGANs with projection discriminator", ICLR 2018. The convolutions are plain and few, for a machine of two cores.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from recon.errors import InputError
from recon.nets.common import LEAST_SIDE, halved_sizes, require_size
from recon.ranges import require_whole, require_widths

_SLOPE = 0.2


class ResGAN(nn.Module):
    """A residual generator, from noise (B,D) and labels (B,) to images, and its discriminator, to logits (B,).

    The generator begins with a learnt picture of the smallest features, whose channels the noise weighs, and enlarges
    them between blocks; the discriminator halves them. No layer has a norm by default: with a block's last weights at
    zero, each begins as the identity (Zhang, Dauphin & Ma, "Fixup initialization", ICLR 2019).

    >>> net = ResGAN(channels=3, image_size=(32, 32), num_classes=10)
    >>> image = net(torch.zeros(2, 64), torch.tensor([3, 7]))
    >>> image.shape, net.discriminator(image, torch.tensor([3, 7])).shape
    (torch.Size([2, 3, 32, 32]), torch.Size([2]))

    Args:
        channels, image_size: of the images, from 4x4 on.
        num_classes: of the task; 0 = no labels.
        conditional: whether labels are used.
        latent_dim: D, length of the noise.
        generator_widths: channels at each scale, the smallest features first.
        discriminator_widths: channels at each scale, the whole image first.
        blocks: residual blocks at each scale.
        generator_norm: "none", or "conditional" for batch norm whose scale and shift depend on the label.
        discriminator_norm: "none", or "spectral".

    Raises:
        InputError: an argument out of its range.
    """

    fixed_size: ClassVar[bool] = True

    def __init__(
        self,
        *,
        channels: int = 1,
        image_size: tuple[int, int] = (28, 28),
        num_classes: int = 10,
        conditional: bool = True,
        latent_dim: int = 64,
        generator_widths: Sequence[int] = (128, 64, 32),
        discriminator_widths: Sequence[int] = (32, 64, 128),
        blocks: int = 1,
        generator_norm: Literal["none", "conditional"] = "none",
        discriminator_norm: Literal["none", "spectral"] = "none",
    ) -> None:
        super().__init__()
        require_whole("latent_dim", latent_dim)
        require_whole("blocks", blocks)
        require_widths("generator_widths", generator_widths)
        require_widths("discriminator_widths", discriminator_widths)
        require_size("ResGAN", image_size)
        if generator_norm not in ("none", "conditional"):
            raise InputError(f"generator_norm '{generator_norm}' is unknown: choose none or conditional.")
        if discriminator_norm not in ("none", "spectral"):
            raise InputError(f"discriminator_norm '{discriminator_norm}' is unknown: choose none or spectral.")
        self.latent_dim = latent_dim
        self.num_classes = num_classes if conditional else 0
        self.generator: nn.Module = _Generator(
            channels, image_size, self.num_classes, latent_dim, generator_widths, blocks, generator_norm
        )
        self.discriminator: nn.Module = _Discriminator(
            channels, image_size, self.num_classes, discriminator_widths, blocks, discriminator_norm
        )

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        """Generate images (B,C,H,W) in [0,1] from standard normal noise (B,D) and labels (B,) int64."""
        image: Tensor = self.generator(z, label)
        return image


class _Generator(nn.Module):
    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        classes: int,
        latent: int,
        widths: Sequence[int],
        blocks: int,
        norm: str,
    ) -> None:
        super().__init__()
        self.num_classes = classes
        self.sizes = _sizes(size, len(widths))[::-1]
        self.embed = nn.Embedding(classes, latent) if classes else None
        inputs = 2 * latent if classes else latent
        self.basis = nn.Parameter(torch.randn(widths[0], *self.sizes[0]))
        self.mix = nn.Linear(inputs, widths[0])
        kind = classes if norm == "conditional" else None
        self.stages = nn.ModuleList(
            nn.ModuleList(_Block(before if block == 0 else width, width, kind) for block in range(blocks))
            for before, width in zip((widths[0], *widths), widths, strict=False)
        )
        self.last = nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        if self.embed is not None:
            z = torch.cat([z, self.embed(label)], 1)
        x = self.mix(z)[:, :, None, None] * self.basis
        for blocks, (height, width) in zip(self.stages, self.sizes, strict=True):
            if x.shape[2:] != (height, width):
                x = F.interpolate(x, (height, width), mode="bilinear")
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, label)
        image: Tensor = (self.last(F.leaky_relu(x, _SLOPE)).tanh() + 1) / 2
        return image


class _Discriminator(nn.Module):
    def __init__(
        self, channels: int, size: tuple[int, int], classes: int, widths: Sequence[int], blocks: int, norm: str
    ) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.sizes = _sizes(size, len(widths))
        self.stages = nn.ModuleList(
            nn.ModuleList(_Block(before if block == 0 else width, width, None) for block in range(blocks))
            for before, width in zip((widths[0], *widths), widths, strict=False)
        )
        height, width = self.sizes[-1]
        # Each channel weighs where it saw something, as the mean over all places would not.
        self.where = nn.Conv2d(widths[-1], widths[-1], (height, width), groups=widths[-1])
        self.score = nn.Linear(widths[-1], 1)
        self.label_features = nn.Embedding(classes, widths[-1]) if classes else None
        if norm == "spectral":
            for module in list(self.modules()):
                if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
                    spectral_norm(module)

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        """Judge images (B,C,H,W) in [0,1] with labels (B,) int64: logits (B,)."""
        x = self.first(2 * image - 1)
        for blocks, size in zip(self.stages, self.sizes, strict=True):
            if tuple(x.shape[2:]) != size:
                x = F.avg_pool2d(x, 2, ceil_mode=True)
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, label)
        features = self.where(F.leaky_relu(x, _SLOPE)).flatten(1)
        logit: Tensor = self.score(features).squeeze(1)
        if self.label_features is not None:
            logit = logit + (self.label_features(label) * features).sum(1) / features.shape[1] ** 0.5
        return logit


class _Block(nn.Module):
    """Two 3x3 convolutions added to the input, which a 1x1 convolution widens where it must."""

    def __init__(self, inputs: int, outputs: int, classes: int | None) -> None:
        super().__init__()
        self.norms = nn.ModuleList(_norm(width, classes) for width in (inputs, outputs))
        self.inner = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()
        nn.init.kaiming_normal_(self.inner.weight, a=_SLOPE)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        y = self.inner(F.leaky_relu(self.norms[0](x, label), _SLOPE))
        y = self.second(F.leaky_relu(self.norms[1](y, label), _SLOPE))
        result: Tensor = self.skip(x) + y
        return result


class _NoNorm(nn.Module):
    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return x


class _ConditionalNorm(nn.Module):
    """Batch norm whose scale and shift depend on the label (de Vries et al. 2017)."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width, affine=False)
        self.scale, self.shift = nn.Embedding(max(1, classes), width), nn.Embedding(max(1, classes), width)
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        row = label % self.scale.num_embeddings  # of images without labels all are alike
        normed: Tensor = self.norm(x) * self.scale(row)[:, :, None, None] + self.shift(row)[:, :, None, None]
        return normed


def _norm(width: int, classes: int | None) -> nn.Module:
    return _NoNorm() if classes is None else _ConditionalNorm(width, classes)


def _sizes(size: tuple[int, int], scales: int) -> list[tuple[int, int]]:
    """List the sizes at each scale, that of the image first; none is halved below 4x4."""
    sizes = halved_sizes(size, scales - 1)
    least = max(index for index, (height, width) in enumerate(sizes) if index == 0 or min(height, width) >= LEAST_SIDE)
    return [sizes[min(index, least)] for index in range(scales)]
