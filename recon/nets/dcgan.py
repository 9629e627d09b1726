"""DCGAN: Radford, Metz & Chintala, "Unsupervised representation learning with deep convolutional GANs", ICLR 2016.

Labels enter the generator beside the noise (Mirza & Osindero 2014, conditional GAN) and the discriminator by
projection (Miyato & Koyama, "cGANs with projection discriminator", ICLR 2018).
"""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, cat, nn
from torch.nn.utils.parametrizations import spectral_norm

from recon.errors import InputError
from recon.nets.common import LEAST_SIDE, halved_sizes, require_size
from recon.ranges import require_share, require_whole, require_widths

GRID = 4


class Generator(nn.Module):
    """Noise (B,latent_dim) and labels (B,) to images (B,C,H,W) in [0,1].

    A dense layer makes the smallest features, transposed convolutions with batch norm and LeakyReLU enlarge them. As
    many of the last layers as the size allows double it, so that the start is at least 4x4: 28x28 grows 4-7-14-28. Odd
    sizes are cropped by a row or column.

    >>> Generator(num_classes=10)(torch.zeros(2, 100), torch.tensor([3, 7])).shape
    torch.Size([2, 1, 28, 28])

    Args:
        channels, image_size: of the images, at least 4x4.
        num_classes: K; 0 = labels are ignored.
        latent_dim: length of the noise.
        base: channels of the dense layer's features.
        widths: channels of each transposed convolution before the last, whose output is the image.

    """

    fixed_size: ClassVar[bool] = True

    def __init__(
        self,
        *,
        channels: int = 1,
        image_size: tuple[int, int] = (28, 28),
        num_classes: int = 0,
        latent_dim: int = 100,
        base: int = 128,
        widths: Sequence[int] = (128, 64),
    ) -> None:
        super().__init__()
        require_whole("num_classes", num_classes, 0)
        require_whole("latent_dim", latent_dim)
        require_whole("base", base)
        require_widths("widths", widths, 0)
        require_size("Generator", image_size)
        self.latent_dim = latent_dim
        self.num_classes = num_classes
        ladder = [base, *widths, channels]
        layers = len(ladder) - 1
        doublings = max(n for n in range(layers + 1) if min(halved_sizes(image_size, n)[-1]) >= LEAST_SIDE)
        start, *grown = halved_sizes(image_size, doublings)[::-1]
        self.sizes = [start] * (layers - doublings) + grown
        self.start_shape = (base, *start)
        self.expand = nn.Linear(latent_dim + num_classes, prod(self.start_shape))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in ladder[:-1])
        kernels = [(3, 1)] * (layers - doublings) + [(4, 2)] * doublings  # with their strides
        self.layers = nn.ModuleList(
            nn.ConvTranspose2d(*widths_of, kernel, stride, padding=1)
            for widths_of, (kernel, stride) in zip(pairwise(ladder), kernels, strict=True)
        )
        self.apply(_initialise)

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        """Generate images (B,C,H,W) in [0,1] from standard normal noise (B,latent_dim) and labels (B,) int64."""
        if self.num_classes:
            z = cat([z, F.one_hot(label, self.num_classes).to(z.dtype)], dim=1)
        x: Tensor = self.expand(z).unflatten(1, self.start_shape)
        for norm, layer, (height, width) in zip(self.norms, self.layers, self.sizes, strict=True):
            x = layer(F.leaky_relu(norm(x), 0.2))[:, :, :height, :width]
        return (x.tanh() + 1) / 2


class Discriminator(nn.Module):
    """Images (B,C,H,W) in [0,1] and labels (B,) to one logit each (B,), high for real.

    Strided convolutions with LeakyReLU, then the sum over each cell of a 4x4 grid: it takes any size from 2^stages, and
    for 32x32 pixels and three stages this is the paper's flattening. One sum over the whole image, which loses where
    strokes lie, learnt MNIST far more slowly.

    >>> Discriminator()(torch.zeros(2, 1, 28, 28), torch.tensor([3, 7])).shape
    torch.Size([2])

    Args:
        channels: C of the image.
        num_classes: K; 0 = labels are ignored.
        widths: channels of each stage.
        dropout: the fraction of features dropped after each stage.
        norm: 'none', 'batch' (all stages but the first) or 'spectral' (all weights; Miyato et al. 2018).

    """

    fixed_size: ClassVar[bool] = False

    def __init__(
        self,
        *,
        channels: int = 1,
        num_classes: int = 0,
        widths: Sequence[int] = (64, 128),
        dropout: float = 0.0,
        norm: Literal["none", "batch", "spectral"] = "none",
    ) -> None:
        super().__init__()
        require_whole("num_classes", num_classes, 0)
        require_widths("widths", widths)
        require_share("dropout", dropout)
        if norm not in ("none", "batch", "spectral"):
            raise InputError(f"norm '{norm}' is unknown: choose none, batch or spectral.")
        self.num_classes = num_classes
        self.least_side = 2 ** len(widths)
        layers: list[nn.Module] = []
        for stage, width in enumerate(widths):
            layers.append(nn.Conv2d(channels, width, 4, stride=2, padding=1))
            if norm == "batch" and stage > 0:
                layers.append(nn.BatchNorm2d(width))
            layers += [nn.LeakyReLU(0.2), nn.Dropout(dropout)]
            channels = width
        self.features = nn.Sequential(*layers)
        self.score = nn.Linear(channels * GRID**2, 1)
        self.label_features = nn.Embedding(num_classes, channels * GRID**2) if num_classes else None
        self.apply(_initialise)
        if norm == "spectral":
            for module in list(self.modules()):
                if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
                    spectral_norm(module)

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        """Judge images (B,C,H,W) in [0,1] with labels (B,) int64: logits (B,)."""
        require_size("Discriminator", image.shape, self.least_side)
        rows = self.features(2 * image - 1).tensor_split(GRID, dim=2)
        # Cells of features smaller than the grid may be empty and sum to 0. Adaptive pooling is not deterministic.
        features = cat([cell.sum((2, 3)) for row in rows for cell in row.tensor_split(GRID, dim=3)], dim=1)
        logit: Tensor = self.score(features).squeeze(1)
        if self.label_features is not None:
            logit = logit + (self.label_features(label) * features).sum(1)
        return logit


class DCGAN(nn.Module):
    """A generator and its discriminator, both by label where the task has labels and `conditional` is set.

    >>> DCGAN()(torch.zeros(2, 100), torch.tensor([3, 7])).shape
    torch.Size([2, 1, 28, 28])

    Args:
        channels, image_size: of the images, at least 4x4 and 2^stages of the discriminator.
        num_classes: of the task; 0 = no labels.
        conditional: whether labels are used.
        latent_dim: length of the noise.
        base: channels of the generator's first features.
        generator_widths: channels of its transposed convolutions before the last.
        discriminator_widths: channels of the discriminator's stages.
        dropout: in the discriminator.
        norm: of the discriminator: 'none', 'batch' or 'spectral'.

    """

    fixed_size: ClassVar[bool] = True

    def __init__(
        self,
        *,
        channels: int = 1,
        image_size: tuple[int, int] = (28, 28),
        num_classes: int = 10,
        conditional: bool = True,
        latent_dim: int = 100,
        base: int = 128,
        generator_widths: Sequence[int] = (128, 64),
        discriminator_widths: Sequence[int] = (32, 64, 128),
        dropout: float = 0.0,
        norm: Literal["none", "batch", "spectral"] = "batch",
    ) -> None:
        super().__init__()
        require_widths("generator_widths", generator_widths, 0)
        require_widths("discriminator_widths", discriminator_widths)
        require_size("DCGAN", image_size, max(LEAST_SIDE, 2 ** len(discriminator_widths)))
        self.latent_dim = latent_dim
        self.num_classes = num_classes if conditional else 0
        self.generator = Generator(
            channels=channels,
            image_size=image_size,
            num_classes=self.num_classes,
            latent_dim=latent_dim,
            base=base,
            widths=generator_widths,
        )
        self.discriminator = Discriminator(
            channels=channels, num_classes=self.num_classes, widths=discriminator_widths, dropout=dropout, norm=norm
        )

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        """Generate images (B,C,H,W) in [0,1] from standard normal noise (B,latent_dim) and labels (B,) int64."""
        image: Tensor = self.generator(z, label)
        return image


def _initialise(module: nn.Module) -> None:
    """Draw weights from N(0, 0.02), as the paper does, and those of batch norm from N(1, 0.02)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        assert module.bias is not None
        nn.init.zeros_(module.bias)
