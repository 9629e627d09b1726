"""The loader's promises: the same pairs whatever the batch size, the number of processes or the order."""

import weakref

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from recon import keyed
from recon.data.augment import Augment
from recon.data.loader import make_pair
from recon.data.store import ImageStore, PairLoader
from recon.degradations import Chain, Downsample, GaussianNoise, MissingBox, MissingPixels
from recon.errors import InputError
from recon.pair import Pair

DAMAGE = Chain({"noise": GaussianNoise(sigma=(0.05, 0.2)), "missing": MissingPixels(fraction=0.3)})


@pytest.fixture(scope="module")
def digits() -> ImageStore:
    data = load_digits()
    return ImageStore.from_arrays((data.images[:150, None] * 255 / 16).round().astype(np.uint8), data.target[:150])


@pytest.fixture(scope="module")
def mixed() -> ImageStore:
    """Real digits cut to three sizes."""
    images = (load_digits().images[:40] * 255 / 16).round().astype(np.uint8)
    return ImageStore.from_arrays([image[None, : 8 - n % 3, : 8 - n % 2] for n, image in enumerate(images)], None)


def rows(loader: PairLoader) -> dict[int, Pair]:
    """The pairs of one iteration, by index."""
    return {int(pair.index[n]): Pair(*(field[n] for field in pair)) for pair in loader for n in range(len(pair.index))}


def assert_same(one: dict[int, Pair], other: dict[int, Pair]) -> None:
    assert one.keys() == other.keys()
    for index, pair in one.items():
        for name, left, right in zip(Pair._fields, pair, other[index], strict=True):
            assert torch.equal(left, right), f"{name} of sample {index}"


@pytest.mark.parametrize("batch_size", [1, 7, 150])
@pytest.mark.parametrize("crop", [None, 5])
def test_evaluation_pairs_do_not_depend_on_the_batch_size(
    digits: ImageStore, batch_size: int, crop: int | None
) -> None:
    one = rows(PairLoader(digits, "test", 64, DAMAGE, crop=crop))
    assert_same(one, rows(PairLoader(digits, "test", batch_size, DAMAGE, crop=crop)))
    assert sorted(one) == list(range(150))


@pytest.mark.parametrize("world_size", [2, 3])
def test_evaluation_ranks_share_every_image_once(digits: ImageStore, world_size: int) -> None:
    ranks = [
        rows(PairLoader(digits, "test", 64, DAMAGE, rank=rank, world_size=world_size)) for rank in range(world_size)
    ]
    together = {index: pair for rank in ranks for index, pair in rank.items()}
    assert sum(map(len, ranks)) == 150
    assert_same(together, rows(PairLoader(digits, "test", 64, DAMAGE)))


def test_evaluation_groups_mixed_sizes_and_gives_every_image_whole(mixed: ImageStore) -> None:
    found = rows(PairLoader(mixed, "validation", 16, DAMAGE))
    assert sorted(found) == list(range(40))
    for index, pair in found.items():
        assert list(pair.clean.shape[-2:]) == mixed.sizes[index].tolist()
    assert_same(found, rows(PairLoader(mixed, "validation", 1, DAMAGE)))


def test_evaluation_does_not_depend_on_seed_or_epoch(digits: ImageStore) -> None:
    other = PairLoader(digits, "test", 64, DAMAGE, seed=5)
    other.set_epoch(3)
    assert_same(rows(PairLoader(digits, "test", 64, DAMAGE)), rows(other))


def train_loader(store: ImageStore, **how: int | None) -> PairLoader:
    return PairLoader(store, "train", 24, DAMAGE, augment=Augment(flip=True, crop_padding=1), **how)


def test_training_ranks_see_the_batches_of_one_process(digits: ImageStore) -> None:
    whole = list(train_loader(digits))
    halves = [list(train_loader(digits, rank=rank, world_size=2)) for rank in range(2)]
    assert len(whole) == len(halves[0]) == len(halves[1]) == 150 // 24
    for batch, *shares in zip(whole, *halves, strict=True):
        assert sorted(batch.index.tolist()) == sorted(index for share in shares for index in share.index.tolist())
    assert_same(
        rows(train_loader(digits)),
        rows(train_loader(digits, rank=0, world_size=2)) | rows(train_loader(digits, rank=1, world_size=2)),
    )


def test_training_is_a_function_of_seed_and_epoch(digits: ImageStore) -> None:
    loader = train_loader(digits)
    first = list(loader)
    loader.set_epoch(1)
    second = list(loader)
    loader.set_epoch(0)
    again = list(loader)
    assert all(
        torch.equal(a, b) for one, other in zip(first, again, strict=True) for a, b in zip(one, other, strict=True)
    )
    assert not torch.equal(first[0].index, second[0].index)
    indices = torch.cat([pair.index for pair in first])
    assert len(indices.unique()) == len(indices)


@pytest.mark.parametrize("together", [1, 24 * 64 * 4, 1 << 21])
@pytest.mark.parametrize(("rank", "world_size", "start"), [(0, 1, 0), (0, 1, 3), (1, 3, 0), (3, 7, 4)])
@pytest.mark.parametrize("crop", [None, 5])
def test_batches_do_not_depend_on_how_many_are_made_at_once(
    digits: ImageStore, together: int, rank: int, world_size: int, start: int, crop: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """By the promise of `pair`, which makes any samples; and by which samples a batch has."""
    monkeypatch.setattr("recon.data.store._TOGETHER", together)
    loader = train_loader(digits, rank=rank, world_size=world_size, crop=crop)
    order = keyed.permutation(0, "order", 0, 150)
    loader.start = start
    batches = list(loader)
    assert len(batches) == 6 - start
    for step, batch in enumerate(batches, start):
        own = order[24 * step : 24 * (step + 1)][rank::world_size]
        assert torch.equal(batch.index, own)
        for name, made, alone in zip(Pair._fields, batch, loader.pair(own), strict=True):
            assert torch.equal(made, alone), name


def test_images_of_many_sizes_are_made_batch_by_batch(mixed: ImageStore) -> None:
    assert [len(pair.index) for pair in PairLoader(mixed, "train", 1, DAMAGE)] == [1] * 40


def test_a_set_smaller_than_a_batch_still_trains(mixed: ImageStore) -> None:
    loader = PairLoader(mixed, "train", 64, DAMAGE, crop=4, rank=1, world_size=3)
    (pair,) = loader
    assert len(loader) == 1
    assert pair.clean.shape == (13, 1, 4, 4)


def test_clean_images_are_exact(digits: ImageStore) -> None:
    pair = next(iter(PairLoader(digits, "test", 150, DAMAGE)))
    assert torch.equal((pair.clean * 255).round().to(torch.uint8), digits.gather(pair.index))
    assert torch.equal(pair.label, digits.label)


def test_preview_is_always_the_same_and_of_one_size(mixed: ImageStore, digits: ImageStore) -> None:
    for store in (mixed, digits):
        one, other = (PairLoader(store, "validation", batch, DAMAGE).preview(8).pair for batch in (4, 64))
        assert len(one.clean) == 8
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_an_image_smaller_than_the_scale_is_told() -> None:
    pixels = torch.zeros(2, 1, 2, 8, dtype=torch.uint8)
    ones = torch.ones(2, dtype=torch.int64)
    with pytest.raises(InputError, match=r"^degradation\.scale=3 leaves nothing of an image of 8x2 pixels"):
        make_pair(pixels, ones, ones, ones, None, Downsample(3))


def test_a_training_goes_on_with_any_batch_and_then_with_whole_epochs(digits: ImageStore) -> None:
    loader = train_loader(digits)
    whole = [pair.index for pair in loader]
    loader.start = 3
    assert all(torch.equal(pair.index, index) for pair, index in zip(loader, whole[3:], strict=True))
    assert all(torch.equal(pair.index, index) for pair, index in zip(loader, whole, strict=True))


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("world_size", [2, 3, 8])
def test_ranks_without_images_take_part_in_an_evaluation(digits: ImageStore, count: int, world_size: int) -> None:
    few = digits.subset(torch.arange(count))
    ranks = [PairLoader(few, "test", 64, DAMAGE, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert all(len(loader) >= 1 for loader in ranks), "Lightning leaves out a rank of length 0, and the others wait"
    assert sorted(index for loader in ranks for pair in loader for index in pair.index.tolist()) == list(range(count))


def test_windows_show_the_damage_of_the_whole_image() -> None:
    """A window has the pixels, the damage and the mask that the evaluation has in its place, at any scale."""
    generator = np.random.default_rng(0)
    store = ImageStore.from_arrays([generator.integers(0, 256, (1, 40 + n, 50 - n), np.uint8) for n in range(3)])
    for damage in (DAMAGE, Downsample(2)):
        loader = PairLoader(store, "test", 4, damage)
        view = loader.look_at(torch.tensor([2, 0]), largest=17)
        shown, window = view.pair, view.window
        assert window is not None
        for place, index in enumerate((2, 0)):
            whole = loader.pair(torch.tensor([index]))
            side = 17 // damage.scale
            places = whole.degraded[0].unfold(1, side, 1).unfold(2, side, 1).movedim((1, 2), (0, 1))
            found = (places == shown.degraded[place]).flatten(2).all(2).nonzero()
            assert len(found) == 1
            top, left = (int(start) * damage.scale for start in found[0])
            size = whole.clean.shape[2:]
            assert window[place].tolist() == [top, left, side * damage.scale, side * damage.scale, *size]
            for field in ("clean", "mask"):
                image = getattr(whole, field)[0, :, top : top + side * damage.scale, left : left + side * damage.scale]
                assert torch.equal(image, getattr(shown, field)[place])


def test_crops_of_an_evaluation_are_shown_on_their_wholes() -> None:
    generator = np.random.default_rng(0)
    store = ImageStore.from_arrays([generator.integers(0, 256, (1, 40 + n, 50 - n), np.uint8) for n in range(3)])
    view = PairLoader(store, "test", 4, DAMAGE, crop=16).look_at(torch.tensor([2, 0]))
    assert view.window is not None
    for place, index in enumerate((2, 0)):
        top, left, height, width, *_ = view.window[place].tolist()
        whole = store.gather(torch.tensor([index]))[0]
        cut = whole[:, top : top + height, left : left + width]
        assert torch.equal(cut, (view.pair.clean[place] * 255).round().to(torch.uint8))
        assert view.whole is not None
        assert (view.whole[place, :, : whole.shape[1], : whole.shape[2]] * 255).round().equal(whole.float())


def test_windows_have_holes_in_view_and_their_images_are_in_memory_one_by_one() -> None:
    store = ImageStore.from_arrays([np.full((1, 90, 90 + n), 200, np.uint8) for n in range(4)])
    loader = PairLoader(store, "test", 4, MissingBox(0.25))
    alive: list[weakref.ref[torch.Tensor]] = []

    def one(index: torch.Tensor) -> Pair:
        assert sum(ref() is not None for ref in alive) <= 1
        pair = PairLoader.pair(loader, index)
        alive.append(weakref.ref(pair.clean))
        return pair

    loader.pair = one  # type: ignore[method-assign]
    view = loader.look_at(torch.arange(4), largest=20)
    assert len(alive) == 4
    assert (view.pair.mask == 0).flatten(1).any(1).all(), "eight draws find a box of a quarter of the image"
    assert view.whole is not None
    assert view.known is not None
    known = view.known[0, :, :, :90] == 1  # what is right of it fills up
    assert view.whole[0, :, :, :90][known].allclose(torch.tensor(200 / 255)), "a hole does not darken what is beside it"
    assert (view.whole.shape, view.known.shape) == ((4, 1, 90, 93), (4, 1, 90, 93))


def test_overfitting_repeats_the_batches_and_their_damage(digits: ImageStore) -> None:
    loader = train_loader(digits, repeat=True)
    epochs = []
    for epoch in range(3):
        loader.set_epoch(epoch)
        epochs.append(list(loader))
    for other in epochs[1:]:
        for one, two in zip(epochs[0], other, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
