"""Pairs from the user's own files: the damage is real, the contract the same."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut
from test_folder import folder_task, save

from recon import keyed
from recon.data.augment import Augment
from recon.data.datamodule import DataModule
from recon.data.store import PairLoader
from recon.data.tasks.digits import Digits
from recon.degradations import Chain, GaussianNoise
from recon.degradations.file import FromFiles
from recon.errors import InputError

PHOTO = astronaut()
TURNS = Augment(flip=True, turns=True)


def photograph(n: int) -> np.ndarray:
    """Patches of several sizes, all multiples of 12, that are unlike each other everywhere."""
    return np.ascontiguousarray(PHOTO[7 * n : 7 * n + 48 + 12 * (n % 3), 11 * n : 11 * n + 60])


def damaged(image: np.ndarray, scale: int = 1) -> np.ndarray:
    """A damage that is known place by place: every value negated; of smaller images, every `scale`-th pixel."""
    return 255 - image[::scale, ::scale]


def dataset(folder: Path, scale: int = 1, count: int = 12) -> tuple[Path, Path]:
    for n in range(count):
        save(folder, f"clean/{'ab'[n % 2]}/{n}.png", photograph(n))
        save(folder, f"damaged/{'ab'[n % 2]}/{n}.bmp", np.ascontiguousarray(damaged(photograph(n), scale)))
    return folder / "clean", folder / "damaged"


def data(clean: Path, degraded: Path, scale: int = 1, cache: Path | None = None, augment=TURNS, **how) -> DataModule:
    task = folder_task(clean, **{"crop": 24, "crops_per_image": 3, "batch_size": 8, **how})
    return DataModule(task, Path(), FromFiles(str(degraded), scale=scale), augment, 0, False, cache)


def all_pairs(module: DataModule) -> list[tuple[str, object]]:
    loaders = {"train": module.train_dataloader, "validation": module.val_dataloader, "test": module.test_dataloader}
    return [(split, pair) for split, loader in loaders.items() for pair in loader()]


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_every_pair_of_every_split_belongs_together(tmp_path: Path, scale: int, mapped: bool) -> None:
    """The damage is a function of the place in the image, so that any other crop, flip or partner would show."""
    clean, degraded = dataset(tmp_path, scale)
    module = data(clean, degraded, scale, tmp_path / "cache" if mapped else None)
    found = all_pairs(module)
    assert {split for split, _ in found} == {"train", "validation", "test"}
    for split, pair in found:
        side = (24 // scale, 24 // scale) if split == "train" else tuple(s // scale for s in pair.clean.shape[2:])
        assert pair.degraded.shape[2:] == side
        original, image = (pair.clean * 255).round(), (pair.degraded * 255).round()
        if scale == 1:
            assert torch.equal(image, 255 - original)
        else:
            # Which of a cell's pixels was taken is turned with the image.
            cells = original.unfold(2, scale, scale).unfold(3, scale, scale)
            corners = [cells[..., y, x] for y in (0, -1) for x in (0, -1)]
            same = torch.stack([(image == 255 - corner).flatten(1).all(1) for corner in corners])
            assert same.any(0).all()
            assert split == "train" or same[0].all(), "an evaluation does not turn"
        assert pair.mask.shape == (len(original), 1, *original.shape[2:])
        assert (pair.mask == 1).all()
        assert (pair.severity == 0).all()
        assert pair.severity.shape == pair.index.shape
        assert pair.degraded.dtype == pair.clean.dtype == torch.float32


def test_clean_images_are_those_of_any_other_degradation(tmp_path: Path) -> None:
    clean, degraded = dataset(tmp_path)
    module = data(clean, degraded)
    for split in ("train", "validation", "test"):
        how = {"augment": TURNS, "crop": 24} if split == "train" else {}
        other = list(PairLoader(getattr(module.task.load(Path()), split), split, 8, GaussianNoise(0.1), **how))
        mine = [pair for name, pair in all_pairs(module) if name == split]
        for one, two in zip(mine, other, strict=True):
            assert torch.equal(one.clean, two.clean)
            assert torch.equal(one.label, two.label)
            assert torch.equal(one.index, two.index)


def test_a_mapped_store_gives_the_same_pairs(tmp_path: Path) -> None:
    clean, degraded = dataset(tmp_path)
    one, other = (all_pairs(data(clean, degraded, cache=cache)) for cache in (None, tmp_path / "cache"))
    assert len(list((tmp_path / "cache").glob("*.pixels"))) == 2
    for (_, left), (_, right) in zip(one, other, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("batch_size", [1, 5])
def test_pairs_do_not_depend_on_the_batch(tmp_path: Path, batch_size: int, scale: int) -> None:
    module = data(*dataset(tmp_path, scale), scale)
    loader = module.train_dataloader()
    whole = loader.pair(torch.arange(len(loader.source)))
    parts = [loader.pair(index) for index in torch.arange(len(loader.source)).split(batch_size)]
    for name, field in zip(whole._fields, whole, strict=True):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), field)


def test_whole_images_and_odd_sizes_are_cut_to_whole_multiples(tmp_path: Path) -> None:
    for n in range(4):
        image = np.ascontiguousarray(PHOTO[9 * n : 9 * n + 37, :53])
        save(tmp_path, f"clean/{n}.png", image)
        save(tmp_path, f"damaged/{n}.png", np.ascontiguousarray(image[:36:3, :51:3]))
    module = data(tmp_path / "clean", tmp_path / "damaged", 3, augment=Augment(flip=False), crop=None, batch_size=2)
    for _, pair in all_pairs(module):
        assert pair.clean.shape[2:] == (36, 51)
        assert torch.equal(pair.clean[..., ::3, ::3], pair.degraded)


def test_the_preview_shows_pairs(tmp_path: Path) -> None:
    pair = data(*dataset(tmp_path)).val_dataloader().preview(2).pair
    assert torch.equal((pair.degraded * 255).round(), 255 - (pair.clean * 255).round())


def test_a_test_folder_has_one_of_degraded_images(tmp_path: Path) -> None:
    clean, degraded = dataset(tmp_path)
    for n in range(12, 15):
        save(tmp_path, f"other/a/{n}.png", photograph(n))
        save(tmp_path, f"other_damaged/a/{n}.png", damaged(photograph(n)))
    task = folder_task(clean, crop=24, test=str(tmp_path / "other"))
    module = DataModule(
        task, Path(), FromFiles(str(degraded), str(tmp_path / "other_damaged")), None, 0, fixed_size=False
    )
    found = [pair for split, pair in all_pairs(module) if split == "test"]
    assert sum(len(pair.index) for pair in found) == 3
    for pair in found:
        assert torch.equal((pair.degraded * 255).round(), 255 - (pair.clean * 255).round())
    alone = DataModule(task, Path(), FromFiles(str(degraded)), None, 0, fixed_size=False)
    with pytest.raises(InputError, match=r"^task\.test is set and degradation\.test is not[^\n]+\.$"):
        alone.load()
    task = folder_task(clean, crop=24)
    both = DataModule(task, Path(), FromFiles(str(degraded), str(degraded)), None, 0, fixed_size=False)
    with pytest.raises(InputError, match=r"^degradation\.test is set and task\.test is not[^\n]+\.$"):
        both.load()


def test_globs_are_paired_below_their_fixed_part(tmp_path: Path) -> None:
    dataset(tmp_path)
    module = data(f"{tmp_path}/clean/**/*.png", f"{tmp_path}/damaged/**/*.bmp")
    for _, pair in all_pairs(module):
        assert torch.equal((pair.degraded * 255).round(), 255 - (pair.clean * 255).round())


def test_grey_damage_of_colour_images_is_read_in_colour(tmp_path: Path) -> None:
    clean, degraded = dataset(tmp_path)
    for path in degraded.rglob("*.bmp"):
        Image.open(path).convert("L").save(path)
    for _, pair in all_pairs(data(clean, degraded)):
        assert pair.degraded.shape == pair.clean.shape
        assert torch.equal(pair.degraded[:, 0], pair.degraded[:, 2])


def refuse(tmp_path: Path, pattern: str, scale: int = 1) -> None:
    with pytest.raises(InputError, match=pattern) as error:
        data(tmp_path / "clean", tmp_path / "damaged", scale).load()
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


def test_an_image_without_a_degraded_one_is_named_and_counted(tmp_path: Path, monkeypatch) -> None:
    dataset(tmp_path)
    (tmp_path / "damaged/a/4.bmp").unlink()
    (tmp_path / "damaged/b/7.bmp").unlink()
    monkeypatch.setattr("recon.data.image_files.read_image", None)  # it is found before anything is decoded
    refuse(tmp_path, r"^degradation\.path=.* has no degraded image of .*/a/4\.png \(2 of 12 images lack theirs\)")


def test_a_degraded_image_of_another_size_is_told_with_both_sizes(tmp_path: Path) -> None:
    dataset(tmp_path)
    save(tmp_path, "damaged/a/4.bmp", photograph(4)[:47])
    refuse(tmp_path, r"^degradation\.scale=1 does not fit .*/a/4\.bmp of 60x47 pixels, as .*/a/4\.png has 60x60")
    refuse(tmp_path, r"^degradation\.scale=2 does not fit .*/a/0\.bmp of 60x48 pixels", scale=2)


def test_degraded_images_that_cannot_be_paired_or_read_are_refused(tmp_path: Path) -> None:
    dataset(tmp_path)
    save(tmp_path, "damaged/a/4.png", photograph(4))
    refuse(tmp_path, r"^degradation\.path=.* has 4\.png beside 4\.bmp: .*rename one")
    (tmp_path / "damaged/a/4.png").unlink()
    (tmp_path / "damaged/a/4.bmp").write_bytes(b"")
    refuse(tmp_path, r"4\.bmp cannot be used as an image \(empty\): replace it, or remove it and its clean image\.$")
    with pytest.raises(InputError, match=r"is both the clean and the degraded image"):
        data(tmp_path / "clean", tmp_path / "clean").load()
    with pytest.raises(InputError, match=r"^degradation\.path=.* matches no image"):
        data(tmp_path / "clean", tmp_path / "nowhere").load()


def test_more_degraded_images_than_clean_ones_do_no_harm(tmp_path: Path) -> None:
    clean, degraded = dataset(tmp_path)
    before = all_pairs(data(clean, degraded))
    save(degraded, "a/100.bmp", photograph(3))
    for (_, left), (_, right) in zip(before, all_pairs(data(clean, degraded)), strict=True):
        assert torch.equal(left.degraded, right.degraded)


def test_a_skipped_clean_image_needs_no_degraded_one(tmp_path: Path) -> None:
    clean, degraded = dataset(tmp_path)
    whole = save(clean, "a/bad.png", photograph(5))
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    save(degraded, "a/bad.png", photograph(5))
    with pytest.warns(UserWarning, match=r"left out 1 of 13 images .*: bad\.png"):
        found = all_pairs(data(clean, degraded, on_bad_image="skip"))
    for _, pair in found:
        assert torch.equal((pair.degraded * 255).round(), 255 - (pair.clean * 255).round())


@pytest.mark.parametrize("augment", [Augment(rotate=5.0), Augment(crop_padding=2, flip=True)])
def test_augmentation_that_would_change_the_damage_is_refused(tmp_path: Path, augment: Augment) -> None:
    with pytest.raises(InputError, match=r"^augment\.rotate and augment\.crop_padding [^\n]+\.$"):
        data(*dataset(tmp_path), augment=augment)


def test_only_a_folder_has_pairs() -> None:
    task = Digits(batch_size=4, epochs=1, validation=0.1, crop=None)
    with pytest.raises(InputError, match=r"^degradation=file needs task=folder[^\n]+\.$"):
        DataModule(task, Path(), FromFiles("x"), None, 0, False)


def test_files_cannot_degrade_tensors_nor_be_a_step() -> None:
    clean, keys = torch.rand(2, 1, 8, 8), keyed.keys(0, "test", 0, torch.arange(2))
    for degradation in (FromFiles("x"), Chain({"file": FromFiles("x"), "noise": GaussianNoise(0.1)})):
        with pytest.raises(InputError, match=r"^degradation=file [^\n]+\.$"):
            degradation(clean, keys)


@pytest.mark.parametrize("scale", [0, -1, 1.5, True, "2"])
def test_a_scale_that_is_none_is_refused(scale) -> None:
    with pytest.raises(InputError, match=r"^scale: [^\n]+; give [^\n]+$"):
        FromFiles("x", scale=scale)


def test_images_smaller_than_the_scale_are_refused() -> None:
    FromFiles("x", scale=8).check_shape((3, 8, 9))
    with pytest.raises(InputError, match=r"^scale: [^\n]+; give [^\n]+$"):
        FromFiles("x", scale=9).check_shape((3, 8, 9))
