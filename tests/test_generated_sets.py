"""Sets of generated images: intervals that hold the truth, floors, and copies that are found."""

import pytest
import torch

from recon.metrics.copying import copying
from recon.metrics.distribution import frechet, vendi
from recon.metrics.generated import measured


def normal(count: int, size: int, seed: int) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_intervals_hold_what_many_more_images_give() -> None:
    """The generated ones are shifted by 0.5 in one of 4 features: a Fréchet distance of 0.25."""
    shift = torch.tensor([0.5, 0, 0, 0])
    held = {"fd": 0, "precision": 0, "kd": 0}
    truth = measured(normal(4000, 4, 1000), normal(4000, 4, 1001) + shift, draws=2)
    for seed in range(20):
        found = measured(normal(500, 4, 2 * seed), normal(500, 4, 2 * seed + 1) + shift, seed)
        held["fd"] += found["fd"].low <= 0.25 + 2 * 4 / 500 <= found["fd"].high  # with the bias of 500 images
        held["kd"] += found["kd"].low <= truth["kd"].value <= found["kd"].high
        held["precision"] += abs(found["precision"].low - found["precision"].high) < 0.1
    assert min(held.values()) >= 16, held


@pytest.mark.parametrize("shift", [0.0, 0.3, 2.0])
def test_intervals_of_biased_measures_hold_their_expectation_and_the_value(shift: float) -> None:
    """With 16 features of 200 images the bias is 0.17, and a bootstrap's sets have as much again."""

    def sets(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        return normal(200, 16, 2 * seed), normal(200, 16, 2 * seed + 1) * torch.linspace(0.5, 1.5, 16) + shift / 4

    many = [sets(seed) for seed in range(1000, 1400)]
    expected = {
        "fd": torch.stack([frechet(*each) for each in many]).mean(),
        "vendi": torch.stack([vendi(fake) for _, fake in many]).mean(),
    }
    held = dict.fromkeys(expected, 0)
    for seed in range(50):
        found = measured(*sets(seed), seed)
        for name, value in expected.items():
            held[name] += found[name].low <= float(value) <= found[name].high
            assert found[name].low < found[name].value < found[name].high
    assert min(held.values()) >= 44, held


def test_generated_images_like_real_ones_are_at_the_floor_and_others_are_not() -> None:
    real = normal(1000, 8, 0)
    alike, other = measured(real, normal(1000, 8, 1)), measured(real, 0.5 * normal(1000, 8, 2))
    assert alike["fd"].value < alike["fd"].floor * 1.2 < other["fd"].low
    assert alike["kd"].low < 0 < alike["kd"].high
    assert other["kd"].low > alike["kd"].high
    assert alike["recall"].value > 0.9 > 0.5 > other["recall"].high
    assert alike["vendi"].value > other["vendi"].value * 0.95
    assert {name: found.floor for name, found in alike.items()} == {n: f.floor for n, f in other.items()}


def test_few_images_give_what_they_can() -> None:
    assert set(measured(normal(10, 3, 0), normal(10, 3, 1))) == {"fd", "vendi"}


@pytest.mark.slow
def test_copies_among_one_in_twenty_are_found_and_other_images_are_not_taken_for_copies() -> None:
    """Power and size over 200 trainings each: 5 % of 1,000 images are copies; and none are."""
    found = {0.0: 0, 0.05: 0}
    for share in found:
        for seed in range(200):
            train, test, fake = (normal(count, 16, 3 * seed + n) for n, count in enumerate((2000, 1000, 1000)))
            fake[: round(share * 1000)] = train[: round(share * 1000)] + 0.01 * fake[: round(share * 1000)]
            found[share] += copying(train, test, fake).p < 0.05
    assert found[0.05] >= 190, found
    assert 2 <= found[0.0] <= 18, found


def test_a_planted_copy_is_named_first_with_its_original() -> None:
    train, test, fake = normal(300, 8, 0), normal(100, 8, 1), normal(100, 8, 2)
    fake[7] = train[42]
    told = copying(train, test, fake)
    assert (int(told.closest[0]), int(told.training[0])) == (7, 42)


def test_copies_beside_poor_images_are_found_too() -> None:
    """Those that are like nothing make the mean distance of a copier large."""
    train, test, fake = normal(2000, 16, 0), normal(1000, 16, 1), 3 * normal(1000, 16, 2)
    fake[:100] = train[:100]
    assert copying(train, test, fake).p < 1e-3
    assert copying(train, test, 3 * normal(1000, 16, 3)).p == pytest.approx(1)
