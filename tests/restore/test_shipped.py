"""The weights that come along: whole, small, exact in tiles, and as good at borders as elsewhere."""

import copy
import hashlib

import numpy as np
import pytest
import torch
from skimage.data import astronaut, camera
from torch import Tensor

from recon import keyed
from recon.nets.receptive import make_positive
from recon.restore.tiles import Reach, tiled
from recon.restore.weights import FOLDER, Weights, load_weights, names

RESTORERS = [name for name in names() if not name.startswith("judge_")]
DENOISERS = [name for name in RESTORERS if name.startswith("denoise_")]


def photo(weights: Weights) -> Tensor:
    """A photograph of odd sides, as a net is given it."""
    facts = weights.about.facts
    values = camera()[..., None] if facts["channels"] == 1 else astronaut()
    image = torch.from_numpy(np.ascontiguousarray(values[:425, :497])).float().movedim(2, 0)[None] / 255
    missing = facts["in_channels"] - facts["channels"]
    return torch.cat([image, torch.ones_like(image[:, :1]).expand(-1, missing, -1, -1)], 1)


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
def test_one_pixel_less_of_halo_is_too_little(name: str) -> None:
    """With positive weights, of which every one counts: those that were learned hardly see the last pixels."""
    weights = load_weights(name)
    net, reach = copy.deepcopy(weights.net).double(), weights.about.reach
    make_positive(net, torch.Generator().manual_seed(1))
    assert reach is not None
    image = torch.rand(1, weights.about.facts["in_channels"], 2 * reach.radius + 71, 75, dtype=torch.float64)
    found = {}
    with torch.inference_mode():
        whole = net(image)
        for radius in (reach.radius, reach.radius - 1):
            sides = [reach.radius + 20 + phase for phase in range(reach.stride)]
            parts = [tiled(net, image, Reach(radius, reach.stride, reach.scale), side) for side in sides]
            found[radius] = max(float((part / whole - 1).abs().max()) for part in parts)
    assert found[reach.radius] < 1e-12 < 1e-11 < found[reach.radius - 1]


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
