"""The weights that come along: whole, small, exact in tiles, and as good at borders as elsewhere."""

import hashlib

import numpy as np
import pytest
import torch
from skimage.data import astronaut, camera
from torch import Tensor

from recon import keyed
from recon.nets.receptive import receptive_radius
from recon.restore.tiles import tiled
from recon.restore.weights import FOLDER, Weights, load_weights, names

RESTORERS = [name for name in names() if not name.startswith("judge_")]
DENOISERS = [name for name in RESTORERS if name.startswith("denoise_")]


def photo(weights: Weights) -> Tensor:
    """A photograph of odd sides, as a net is given it: with holes, and the mask of them, where it fills some."""
    facts = weights.about.facts
    values = camera()[..., None] if facts["channels"] == 1 else astronaut()
    image = torch.from_numpy(np.ascontiguousarray(values[:425, :497])).float().movedim(2, 0)[None] / 255
    if facts["in_channels"] == facts["channels"]:
        return image
    known = (torch.rand(1, 1, *image.shape[2:], generator=torch.Generator().manual_seed(0)) < 0.7).float()
    known[..., 150:290, 180:260] = 0
    return torch.cat([image * known, known], 1)


def test_all_are_listed_with_their_hashes_and_cards_and_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.glob("*.safetensors")) <= 12_000_000
    listed = dict(reversed(line.split()) for line in (FOLDER / "SHA256SUMS").read_text().splitlines())
    assert set(listed) == {f"{name}.safetensors" for name in names()}
    for name in names():
        digest = hashlib.sha256((FOLDER / f"{name}.safetensors").read_bytes()).hexdigest()
        assert listed[f"{name}.safetensors"] == digest
        assert digest in (FOLDER / f"{name}.md").read_text()


@pytest.mark.parametrize("name", RESTORERS)
def test_tiles_are_the_whole_photograph(name: str) -> None:
    weights = load_weights(name)
    image, reach = photo(weights), weights.about.reach
    assert reach is not None
    with torch.inference_mode():
        torch.testing.assert_close(tiled(weights.net, image, reach, 201), weights.net(image), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", RESTORERS)
def test_the_halo_is_as_far_as_the_net_sees_and_no_pixel_less(name: str) -> None:
    """Measured by the support of the gradient; those weights that were learned hardly see the last pixels."""
    weights = load_weights(name)
    facts, reach = weights.about.facts, weights.about.reach
    assert reach is not None
    assert receptive_radius(weights.net, facts["in_channels"], 256, facts["scale"]) == reach.radius


@pytest.mark.parametrize("name", DENOISERS)
def test_noise_is_removed_at_the_borders_of_odd_photographs_as_elsewhere(name: str) -> None:
    weights = load_weights(name)
    clean = photo(weights)
    noisy = clean + 25 / 255 * keyed.normal(torch.tensor([7]), tuple(clean.shape[1:]))
    with torch.inference_mode():
        odd, even = weights.net(noisy), weights.net(noisy[..., :424, :496])
    strip = torch.zeros_like(clean, dtype=torch.bool)
    strip[..., 392:424, :496] = strip[..., :424, 464:496] = True
    errors = [(result[..., :424, :496] - clean[..., :424, :496])[strip[..., :424, :496]].square().mean()
              for result in (odd, even)]  # fmt: skip
    assert 10 * float(torch.log10(errors[0] / errors[1])) < 0.3
