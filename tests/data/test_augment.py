"""Augmentation: keyed, batched, and each change what it says."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from scipy import ndimage
from skimage import data
from torch import Tensor

from recon import keyed
from recon.data.augment import Augment, as_float, operators_of
from recon.errors import InputError

CONF = Path(__file__).parents[2] / "conf"
NAMES = sorted(path.stem for path in (CONF / "augment").glob("*.yaml"))


def patches(count: int, height: int = 32, width: int = 32) -> Tensor:
    """Patches of a photograph (count,3,height,width)."""
    photograph = torch.from_numpy(data.astronaut()).permute(2, 0, 1).float().div(255)
    return torch.stack([photograph[:, 4 * i : 4 * i + height, 4 * i : 4 * i + width] for i in range(count)])


def keys(count: int, seed: int = 0) -> Tensor:
    return keyed.keys(seed, "test", 0, torch.arange(count))


@lru_cache
def augment(name: str) -> Augment:
    with initialize_config_dir(str(CONF), version_base=None):
        return instantiate(compose(f"augment/{name}")).augment


@pytest.mark.parametrize("name", NAMES)
def test_laws(name: str) -> None:
    """Shape, type and range kept; the same bits for any batch and order; keys decide."""
    clean = patches(24)
    before = clean.clone()
    whole = augment(name)(clean, keys(24))
    assert whole.shape == clean.shape
    assert whole.dtype == clean.dtype
    assert whole.min() >= 0
    assert whole.max() <= 1 + 1e-6
    assert torch.equal(clean, before)
    for size in (1, 7):
        parts = [augment(name)(*some) for some in zip(clean.split(size), keys(24).split(size), strict=True)]
        assert torch.equal(torch.cat(parts), whole)
    order = keyed.permutation(0, "order", 0, 24)
    assert torch.equal(augment(name)(clean[order], keys(24)[order]), whole[order])
    assert torch.equal(whole, clean) == (name == "none")
    assert torch.equal(whole, augment(name)(clean, keys(24, seed=1))) == (name == "none")


def test_flip_mirrors_every_other_image() -> None:
    clean = patches(1).expand(1000, -1, -1, -1)
    image = Augment(flip=True)(clean, keys(1000))
    mirrored = (image == clean.flip(3)).flatten(1).all(1)
    assert (mirrored | (image == clean).flatten(1).all(1)).all()
    assert abs(mirrored.float().mean() - 0.5) < 4 * (0.25 / 1000) ** 0.5


def test_turns_are_the_eight_symmetries_of_the_square() -> None:
    clean = patches(1).expand(1600, -1, -1, -1)
    image = Augment(turns=True)(clean, keys(1600))
    symmetries = [clean[0].rot90(k, (1, 2)) for k in range(4)]
    symmetries += [turned.flip(2) for turned in symmetries]
    counts = torch.stack([(image == turned).flatten(1).all(1).sum() for turned in symmetries])
    assert counts.sum() == 1600
    assert (counts - 200).abs().max() < 4 * (1600 / 8 * 7 / 8) ** 0.5


def test_crop_is_a_window_of_the_padded_image() -> None:
    clean = keyed.uniform(keyed.fold(keys(100), "pixels"), (3, 12, 20))  # no two windows are alike
    image = Augment(crop_padding=3)(clean, keys(100))
    padded = torch.nn.functional.pad(clean, [3] * 4)
    windows = padded.unfold(2, 12, 1).unfold(3, 20, 1)  # (B,C,7,7,12,20)
    same = (windows == image[:, :, None, None]).all(1).flatten(3).all(3)
    assert same.flatten(1).any(1).all()
    corners = same.any(0)
    assert corners.any(0).all()
    assert corners.any(1).all()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (31, 48)])
def test_rotation_is_that_of_scipy(height: int, width: int) -> None:
    """By the angle of the key, about the centre, also of an oblong image."""
    clean = patches(10, height, width)
    image = Augment(rotate=30.0)(clean, keys(10))
    angles = (2 * keyed.uniform(keyed.fold(keys(10), "rotate")) - 1) * 30
    assert angles.min() < -5
    assert angles.max() > 5
    for one, turned, angle in zip(clean.numpy(), image.numpy(), angles.tolist(), strict=True):
        expected = ndimage.rotate(one, angle, axes=(1, 2), reshape=False, order=1, mode="nearest")
        np.testing.assert_allclose(turned, expected, atol=1e-4)


def test_an_erased_rectangle_is_noise_of_the_area_and_place_drawn() -> None:
    """One rectangle within each image; as many images as asked for; the areas and ratios of the paper."""
    clean = torch.full((2000, 1, 40, 30), 0.5)
    image = Augment(erase=0.3)(clean, keys(2000))
    hit = (image != 0.5)[:, 0]
    some = hit.flatten(1).any(1)
    assert abs(some.float().mean() - 0.3) < 4 * (0.21 / 2000) ** 0.5
    rows, columns = hit.any(2)[some].sum(1), hit.any(1)[some].sum(1)
    assert (hit[some].sum((1, 2)) >= 0.97 * rows * columns).all()  # a byte is never exactly 0.5
    area, ratio = rows * columns / 1200, (rows / 40) / (columns / 30)
    assert 0.01 < area.min() < 0.04
    assert 0.3 < area.max() < 0.36
    assert ratio.min() < 0.5
    assert ratio.max() > 2
    assert abs(area.mean() - (0.02 + 1 / 3) / 2) < 0.015
    noise = image[hit.unsqueeze(1)]
    assert abs(noise.mean() - 0.5) < 0.005
    assert abs(noise.std() - 12**-0.5) < 0.005
    # Every row and column is hit, at the borders too.
    assert hit.any(0).any(0).all()
    assert hit.any(0).any(1).all()


def test_the_operators_are_recons_own_and_go_no_further_than_asked() -> None:
    clean = patches(24)
    assert torch.equal(Augment(operators=0)(clean, keys(24)), clean)
    weak, strong = (Augment(operators=2, magnitude=size)(clean, keys(24)) for size in (0.1, 1.0))
    assert (weak - clean).abs().mean() < 0.5 * (strong - clean).abs().mean()
    once = operators_of(0.5, 32)(clean, keyed.fold(keys(24), "operator 0")).image.clamp(0, 1)
    assert torch.equal(Augment(operators=1)(clean, keys(24)), once)
    assert torch.equal(Augment(operators=1, magnitude=0.0)(clean, keys(24)).mul(255).round(), clean.mul(255).round())


def test_options_do_not_change_each_other() -> None:
    clean = patches(50)
    flipped = Augment(flip=True)(clean, keys(50))
    both = Augment(flip=True, crop_padding=4)(clean, keys(50))
    assert torch.equal(Augment(crop_padding=4)(flipped, keys(50)), both)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Augment(rotate=-1), "augment.rotate"),
        (lambda: Augment(rotate=200), "augment.rotate"),
        (lambda: Augment(rotate="a lot"), "augment.rotate"),
        (lambda: Augment(crop_padding=-1), "augment.crop_padding"),
        (lambda: Augment(crop_padding=1.5), "augment.crop_padding"),
        (lambda: Augment(operators=-1), "augment.operators:"),
        (lambda: Augment(operators=2, magnitude=1.5), "augment.magnitude:"),
        (lambda: Augment(erase=2), "augment.erase:"),
        (lambda: Augment(turns=True)(patches(2, 20, 30), keys(2)), "augment.turns"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(make, name: str) -> None:
    with pytest.raises(InputError, match=rf"^{name} [^\n]+$"):
        make()


@pytest.mark.parametrize("name", NAMES)
def test_bytes_are_changed_as_their_floats_are(name: str) -> None:
    pixels = patches(24).mul(255).round().to(torch.uint8)
    before = pixels.clone()
    image = augment(name)(pixels, keys(24))
    assert image.dtype == (torch.float32 if augment(name).rotate or augment(name).operators else torch.uint8)
    assert torch.equal(as_float(image), augment(name)(as_float(pixels), keys(24)))
    assert torch.equal(pixels, before)


def test_only_flips_and_turns_leave_every_pixel_what_it_is() -> None:
    assert Augment(flip=True, turns=True).rearranges
    assert not Augment(rotate=1.0).rearranges
    assert not Augment(crop_padding=1).rearranges
    assert not Augment(operators=1).rearranges
    assert not Augment(erase=0.1).rearranges
