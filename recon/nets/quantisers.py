"""Quantisers of codes: FSQ (Mentzer et al., "Finite scalar quantization", ICLR 2024) and VQ with moving averages.

VQ is that of van den Oord et al., "Neural discrete representation learning", NeurIPS 2017, appendix A.1.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from recon.errors import InputError
from recon.losses.pixel import wide
from recon.ranges import require_number, require_share, require_whole

_MOST_LEVELS = 4096
_MOST_VECTORS = 1 << 16


class Quantised(NamedTuple):
    """A quantised code.

    >>> FSQ(levels=3)(torch.zeros(2, 4))._fields
    ('code', 'symbols', 'commitment', 'bits')

    Attributes:
        code: (B,D,...), what the decoder is given; gradients pass straight through to the encoder.
        symbols: (B,G,...) int64, each below the size of its alphabet.
        commitment: (B,), how far the code was from what it became, as the training loss adds it.
        bits: (B,), what the symbols are estimated to take, with gradients; None where that is not estimated.
    """

    code: Tensor
    symbols: Tensor
    commitment: Tensor
    bits: Tensor | None = None


class Quantiser(nn.Module):
    """Maps codes (B,D,...) to the nearest of finitely many, which symbols name; nothing in it is trained by gradients.

    >>> Quantiser.__subclasses__()[0].__name__
    'FSQ'
    """

    def alphabet(self, channels: int) -> tuple[int, ...]:
        """Return how many symbols each of the G channels of symbols has, for codes of D = `channels`.

        Raises:
            InputError: such codes cannot be quantised.
        """
        raise NotImplementedError

    def prepare(self, channels: int) -> None:
        """Make what depends on the D = `channels` of the codes, before the first of them."""

    def forward(self, code: Tensor) -> Quantised:
        """Quantise codes (B,D,...)."""
        raise NotImplementedError

    def codes(self, symbols: Tensor) -> Tensor:
        """Return the codes (B,D,...) of symbols (B,G,...) int64."""
        raise NotImplementedError


class FSQ(Quantiser):
    """Every number of the code is squashed to (-1,1) by tanh and rounded to one of a few equally spaced levels.

    The levels lie symmetric about 0, also where their number is even, for which the paper shifts them by half a step.

    Where `prepare` has said how many channels there are, each is first given mean 0 and variance 1, as batch norm does.
    Codes are alike at the start to far less than a step, so that all images have the same symbols, and their gradients
    move all codes to one side, where tanh passes none any more: after 40 steps on MNIST no channel told images apart.

    >>> FSQ(levels=5)(torch.tensor([[-9.0, -0.3, 0.0, 9.0]])).symbols
    tensor([[0, 1, 2, 4]])

    Args:
        levels: of every number of the code, at least 2; or a list with one for each channel.
    """

    def __init__(self, levels: int | Sequence[int]) -> None:
        super().__init__()
        for value in [levels] if isinstance(levels, int) else levels:
            require_whole("levels", value, 2, _MOST_LEVELS)
        self.levels = levels if isinstance(levels, int) else tuple(levels)
        self.norm: nn.BatchNorm1d | None = None

    def prepare(self, channels: int) -> None:
        """Make the norm of the channels, see `Quantiser`."""
        self.norm = nn.BatchNorm1d(channels, eps=1e-8, affine=False)

    def alphabet(self, channels: int) -> tuple[int, ...]:
        """Return the levels of each channel, see `Quantiser`."""
        if isinstance(self.levels, int):
            return (self.levels,) * channels
        if len(self.levels) != channels:
            raise InputError(
                f"levels: there are {len(self.levels)} for a code of {channels} channels; give one for each, or one "
                "number for all"
            )
        return self.levels

    def forward(self, code: Tensor) -> Quantised:
        """Quantise codes (B,D,...): symbols (B,D,...)."""
        steps = self._steps(code)
        bounded = wide(self._normalised(code)).tanh()
        symbols = ((bounded + 1) / 2 * steps).round()
        rounded = symbols / steps * 2 - 1
        passed = bounded + (rounded - bounded).detach()
        return Quantised(passed.to(code.dtype), symbols.long(), bounded.new_zeros(len(code)))

    def codes(self, symbols: Tensor) -> Tensor:
        """Return the codes (B,D,...) in [-1,1] of symbols, in torch's default type."""
        return symbols.to(torch.get_default_dtype()) / self._steps(symbols) * 2 - 1

    def _normalised(self, code: Tensor) -> Tensor:
        if self.norm is None:
            return code
        assert self.norm.running_mean is not None
        normalised: Tensor = self.norm(code.reshape(*code.shape[:2], -1).to(self.norm.running_mean.dtype))
        return normalised.view_as(code)

    def _steps(self, code: Tensor) -> Tensor:
        """Return the levels less one, to broadcast with codes (B,D,...)."""
        levels = torch.tensor(self.alphabet(code.shape[1]), device=code.device) - 1
        return levels.to(torch.get_default_dtype()).view(-1, *[1] * (code.ndim - 2))


class Scalar(Quantiser):
    """Every number of the code is rounded to a multiple of a step; in training, uniform noise as wide is added instead.

    So the loss has gradients of what rounding does, and of the bits that the symbols take (Ballé, Laparra & Simoncelli,
    "End-to-end optimized image compression", 2017). The numbers of a channel are taken as independent with the mean and
    the variance of the batch: of all such, a Gaussian takes the most bits. A file is coded by the true frequencies.

    >>> Scalar(levels=5)(torch.tensor([[-9.0, -0.3, 0.6, 9.0]])).symbols
    tensor([[0, 2, 3, 4]])

    Args:
        levels: of every number of the code, odd, at least 3: from -(levels - 1) / 2 to (levels - 1) / 2 steps.
        step: from 1e-6 to 1e6. The encoder begins with numbers of about a third, which a small step tells apart: a net
            learns faster to use more bits.
    """

    def __init__(self, levels: int, step: float = 1.0) -> None:
        super().__init__()
        require_number("step", step, 1e-6, 1e6)
        require_whole("levels", levels, 3, _MOST_LEVELS)
        if levels % 2 == 0:
            raise InputError(f"levels: {levels} is even, and 0 is the middle one; give {levels + 1}")
        self.levels, self.step = levels, step

    def alphabet(self, channels: int) -> tuple[int, ...]:
        """Return the levels of each channel, see `Quantiser`."""
        return (self.levels,) * channels

    def forward(self, code: Tensor) -> Quantised:
        """Quantise codes (B,D,...): symbols (B,D,...)."""
        most, steps = self.levels // 2, wide(code) / self.step
        bounded = steps.clamp(-most, most)
        rounded = bounded.round()
        # The noise is torch's, whose generator is seeded at every step.
        passed = bounded + torch.rand_like(bounded) - 0.5 if self.training else rounded
        none = bounded.new_zeros(len(code))
        return Quantised((passed * self.step).to(code.dtype), (rounded + most).long(), none, self._bits(steps))

    def codes(self, symbols: Tensor) -> Tensor:
        """Return the codes (B,D,...) of symbols, multiples of the step in torch's default type."""
        return (symbols - self.levels // 2).to(torch.get_default_dtype()) * self.step

    @staticmethod
    def _bits(steps: Tensor) -> Tensor:
        """Return the bits (B,) that codes (B,D,...), in steps, take with noise: the mean of the batch for each."""
        channels = steps.movedim(1, 0).flatten(1)
        # 1/12 is the variance of the noise.
        entropies = ((channels.var(1, unbiased=False) + 1 / 12) * 2 * math.pi * math.e).log2() / 2
        return (entropies.sum() * steps[0, 0].numel()).expand(len(steps))


class VQ(Quantiser):
    """Vectors of the code are replaced by the nearest of a codebook that follows them by moving averages.

    The D channels are split into vectors of `dim`, which share the codebook. It begins as vectors of the first batch;
    one that is hardly used any more begins again at a vector of the batch (Dhariwal et al., "Jukebox", 2020).

    >>> VQ(size=8, dim=2).alphabet(6)
    (8, 8, 8)

    Args:
        size: vectors of the codebook, at least 2.
        dim: numbers of each vector; D is a multiple of it.
        decay: of the moving averages, in [0,1).
        commitment: weight of the squared distance of the code from what it becomes, at least 0.
        restart: a vector that is used less than this share of the average begins again; in [0,1), 0 = never.
    """

    codebook: Tensor
    uses: Tensor
    sums: Tensor
    begun: Tensor

    def __init__(
        self, size: int, dim: int, decay: float = 0.99, commitment: float = 0.25, restart: float = 0.05
    ) -> None:
        super().__init__()
        require_whole("size", size, 2, _MOST_VECTORS)
        require_whole("dim", dim)
        require_share("decay", decay)
        require_number("commitment", commitment)
        require_share("restart", restart)
        self.size, self.dim, self.decay, self.commitment, self.restart = size, dim, decay, commitment, restart
        self.register_buffer("codebook", torch.randn(size, dim))
        self.register_buffer("uses", torch.ones(size))
        self.register_buffer("sums", self.codebook.clone())
        self.register_buffer("begun", torch.tensor(False))

    def alphabet(self, channels: int) -> tuple[int, ...]:
        """Return the size of the codebook for each vector, see `Quantiser`."""
        if channels % self.dim:
            raise InputError(f"dim: vectors of {self.dim} numbers do not divide a code of {channels} channels; give a "
                             f"divisor of {channels}")  # fmt: skip
        return (self.size,) * (channels // self.dim)

    def forward(self, code: Tensor) -> Quantised:
        """Quantise codes (B,D,...): symbols (B,D/dim,...)."""
        vectors = self._vectors(wide(code))
        flat = vectors.detach().reshape(-1, self.dim)
        if self.training and not bool(self.begun):
            self._begin(flat)
        # Of |v - c|² the part |v|² is the same for all.
        distance = self.codebook.square().sum(1) - 2 * flat @ self.codebook.T
        nearest = distance.argmin(1)
        chosen = self.codebook[nearest].view_as(vectors)
        if self.training:
            self._follow(flat, nearest)
        distances = (vectors - chosen.detach()).square().flatten(1).mean(1)
        passed = vectors + (chosen - vectors).detach()
        symbols = nearest.view(vectors.shape[:-1])
        return Quantised(self._joined(passed).to(code.dtype), symbols, self.commitment * distances)

    def codes(self, symbols: Tensor) -> Tensor:
        """Return the codes (B,D,...) of symbols (B,D/dim,...)."""
        return self._joined(self.codebook[symbols])

    def _vectors(self, code: Tensor) -> Tensor:
        """Split codes (B,D,...) into vectors: (B,D/dim,...,dim)."""
        vectors: Tensor = code.unflatten(1, (len(self.alphabet(code.shape[1])), self.dim))
        return vectors.movedim(2, -1)

    @staticmethod
    def _joined(vectors: Tensor) -> Tensor:
        """Undo `_vectors`."""
        code: Tensor = vectors.movedim(-1, 2).flatten(1, 2)
        return code

    @torch.no_grad()
    def _begin(self, flat: Tensor) -> None:
        self._put(torch.ones_like(self.uses, dtype=torch.bool), flat)
        self.begun.fill_(True)

    @torch.no_grad()
    def _put(self, which: Tensor, flat: Tensor) -> None:
        """Let vectors of the codebook begin at drawn vectors (N,dim) of the batch, those of the first process."""
        # Drawn for all, so that nothing depends on how many there are; torch's generator is seeded at every step.
        drawn = flat[torch.randint(len(flat), (self.size,), device=flat.device)].to(self.codebook.dtype)
        if torch.distributed.is_initialized():
            torch.distributed.broadcast(drawn, 0)
        typical = self.uses.mean()
        self.uses.copy_(torch.where(which, typical, self.uses))
        self.sums.copy_(torch.where(which[:, None], drawn * typical, self.sums))
        self.codebook.copy_(torch.where(which[:, None], drawn, self.codebook))

    @torch.no_grad()
    def _follow(self, flat: Tensor, nearest: Tensor) -> None:
        """Move the averages towards the vectors (N,dim) of a batch and their places (N,) in the codebook."""
        found = torch.zeros_like(self.sums).index_add_(0, nearest, flat.to(self.sums.dtype))
        counts = torch.bincount(nearest, minlength=self.size).to(self.uses.dtype)
        if torch.distributed.is_initialized():
            for total in (found, counts):
                torch.distributed.all_reduce(total)
        self.uses.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(found, 1 - self.decay)
        used = self.uses > 1e-6
        self.codebook.copy_(torch.where(used[:, None], self.sums / self.uses.clamp_min(1e-6)[:, None], self.codebook))
        if self.restart:
            self._put(self.uses < self.restart * self.uses.mean(), flat)
