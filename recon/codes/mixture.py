"""A Gaussian mixture on the codes of an autoencoder, by which it generates images."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recon import keyed
from recon.console import tracked
from recon.data.loader import Loader
from recon.errors import InputError
from recon.modules.autoencoding import AutoencodingModule
from recon.pair import Pair

_MOST_NUMBERS = 256  # of a code; each component has the square of that
_FITTED = 20_000  # training images


class CodeMixture:
    """An autoencoder as a generator of what `recon.generated.Generator` asks: its noise is a code drawn of a mixture.

    The mixture, with full covariances, is fitted to the codes of training images (as are those of Ghosh et al., "From
    variational to deterministic autoencoders", 2020), before these are quantised.

    Args:
        module: the autoencoder.
        loader: of the training images, all of one size.
        components: of the mixture.

    Raises:
        InputError: fewer images than components, or a code with more than 256 numbers.
    """

    between = staticmethod(torch.lerp)  # codes have no usual length, along which noise is walked

    def __init__(self, module: AutoencodingModule, loader: Loader[Any], components: int) -> None:
        self.module, self.device, self.facts = module, module.device, module.facts
        self.active_net, self.options, self.class_names = module.active_net, module.options, module.class_names
        codes = self._codes(loader)
        if components > len(codes):
            raise InputError(f"components: {components} are more than there are training images ({len(codes):,}); give "
                             "fewer")  # fmt: skip
        self._fit(codes, components)

    def latents(self, keys: Tensor) -> Tensor:
        """Draw the code of an image for each key: (B,) -> (B,D), flat."""
        uniform = keyed.uniform(keyed.fold(keys, "component"), (1,)).double()
        chosen = torch.searchsorted(self._ends, uniform).flatten().clamp_max(len(self._means) - 1)
        noise = keyed.normal(keys, (self._means.shape[1],)).double()
        codes: Tensor = self._means[chosen] + (self._factors[chosen] @ noise[..., None])[..., 0]
        return codes.float()

    def from_latents(self, z: Tensor, label: Tensor) -> Tensor:
        """Make images (B,C,H,W) of codes (B,D), which are quantised where the autoencoder does that."""
        code = z.view(-1, *self._shape)
        quantised = self.module.quantised(code)
        return self.module.decode(code if quantised is None else quantised.code, *self._size)

    def _codes(self, loader: Loader[Any]) -> Tensor:
        served: Collection[Pair] = loader  # type: ignore[assignment]
        found, sizes = [], set()
        with torch.inference_mode():
            for pair in tracked(served, "training images"):
                code = self.module.encode(pair.degraded.to(self.device))
                sizes.add((*pair.clean.shape[2:],))
                if len(sizes) > 1 or code[0].numel() > _MOST_NUMBERS:
                    what = "images have several sizes" if len(sizes) > 1 else f"code has {code[0].numel():,} numbers"
                    raise InputError(f"run: its {what}, and a mixture needs a code of one size, at most "
                                     f"{_MOST_NUMBERS} numbers; choose another")  # fmt: skip
                found.append(code.float().cpu())
        codes = torch.cat(found)
        self._shape, (self._size,) = codes.shape[1:], sizes
        return codes.flatten(1)

    def _fit(self, codes: Tensor, components: int) -> None:
        from sklearn.mixture import GaussianMixture

        some = keyed.permutation(0, "mixture", 0, len(codes))[:_FITTED]
        # What does not vary at all would have no covariance.
        least = 1e-4 * float(codes.var(0).mean()) + 1e-9
        found = GaussianMixture(components, reg_covar=least, random_state=0).fit(codes[some].double().numpy())
        self._means = torch.from_numpy(found.means_).to(self.device)
        self._factors = torch.from_numpy(np.linalg.cholesky(found.covariances_)).to(self.device)
        self._ends = torch.from_numpy(found.weights_).to(self.device).cumsum(0)
