from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, data_root
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import ExifTags, Image
from skimage.data import astronaut, camera

from recon.data.images import read_image
from recon.data.tasks.folder import Folder
from recon.errors import InputError

RGB = np.ascontiguousarray(astronaut()[40:88, 180:240])  # 48 rows, 60 columns
GREY = np.ascontiguousarray(camera()[100:148, 200:260])
BSD68 = data_root() / "bsd68"


def save(folder, name, array=RGB, **options):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def folder_task(path, **settings):
    config = OmegaConf.load(ROOT / "conf" / "task" / "folder.yaml")
    return instantiate(OmegaConf.merge(config, {"path": str(path), "validation": 1, **settings}))


def pixels(store, place):
    return store.gather(torch.tensor([place]))[0].numpy()


def contents(store):
    return [pixels(store, i).tobytes() for i in range(len(store))]


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_images_are_turned_as_exif_says_in_header_and_pixels(tmp_path, suffix):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned by 90 degrees clockwise
    for number in range(3):
        save(tmp_path, f"{number}.{suffix}", RGB, exif=exif)
    task = folder_task(tmp_path)
    assert task.shape == (3, 60, 48)
    with Image.open(tmp_path / f"0.{suffix}") as image:
        # Pillow turns a TIFF by itself, and the lossless formats need no second opinion.
        stored = RGB if suffix in ("png", "tif") else np.asarray(image.convert("RGB"))
    want = np.rot90(stored, -1).transpose(2, 0, 1)
    np.testing.assert_array_equal(pixels(task.load(Path()).test, 0), want)


def test_a_flat_folder_is_split_three_ways_without_labels(tmp_path):
    for number in range(10):
        save(tmp_path, f"{number}.png", np.roll(RGB, number, 0))
    (tmp_path / "notes.txt").write_text("no image")
    save(tmp_path, "._0.png")
    task = folder_task(tmp_path, test_fraction=0.2, validation=3)
    assert (task.shape, task.num_classes) == ((3, 48, 60), 0)
    splits = task.load(Path())
    assert [len(split) for split in splits] == [5, 3, 2]
    assert len({image for split in splits for image in contents(split)}) == 10
    assert {label for split in splits for label in split.label.tolist()} == {-1}


def test_class_folders_become_labels_by_sorted_name(tmp_path):
    for place, name in enumerate(("zebra", "ant", "mole")):
        for number in range(3):
            save(tmp_path, f"{name}/deep/{number}.png", np.full((8, 8), 10 * place + number, np.uint8))
    task = folder_task(tmp_path)
    assert (task.shape, task.num_classes) == ((1, 8, 8), 3)
    for split in task.load(Path()):
        for place, label in enumerate(split.label.tolist()):
            # zebra was written first but is sorted last, and so on.
            assert label == [2, 0, 1][pixels(split, place)[0, 0, 0] // 10]


def test_a_separate_test_folder_is_all_of_test_and_shares_the_classes(tmp_path):
    for number in range(4):
        save(tmp_path, f"train/{'ab'[number % 2]}/{number}.png", np.roll(RGB, number, 0))
    save(tmp_path, "test/b/0.png", np.roll(RGB, 9, 0))
    splits = folder_task(tmp_path / "train", test=str(tmp_path / "test")).load(Path())
    assert [len(split) for split in splits] == [3, 1, 1]
    assert splits.test.label.tolist() == [1]
    save(tmp_path, "test/c/0.png")
    with pytest.raises(InputError, match=r"task\.test=.* outside the class folders .* a, b"):
        _ = folder_task(tmp_path / "train", test=str(tmp_path / "test")).shape


def test_an_image_in_both_places_is_refused(tmp_path):
    for number in range(4):
        save(tmp_path, f"{number}.png")
    with pytest.raises(InputError, match=r"0\.png is in both task\.path and task\.test"):
        _ = folder_task(tmp_path, test=str(tmp_path / "0*")).shape


def test_a_glob_of_any_depth_has_no_labels(tmp_path):
    for name in ("a/0.png", "a/b/1.png", "c/2.png", "c/3.bmp"):
        save(tmp_path, name)
    task = folder_task(f"{tmp_path}/**/*.png")
    assert task.num_classes == 0
    assert sum(map(len, task.load(Path()))) == 3


def test_a_folder_whose_name_looks_like_a_glob_is_a_folder(tmp_path):
    for number in range(3):
        save(tmp_path, f"[x]/{number}.png")
    assert folder_task(tmp_path / "[x]").shape == (3, 48, 60)


def test_grey_stays_grey_only_if_all_are_grey(tmp_path):
    for number in range(3):
        save(tmp_path, f"{number}.png", GREY)
    assert folder_task(tmp_path).shape[0] == 1
    save(tmp_path, "3.png", RGB)
    task = folder_task(tmp_path)
    assert task.shape[0] == 3
    assert np.repeat(GREY[None], 3, 0).tobytes() in {i for split in task.load(Path()) for i in contents(split)}


def test_channels_reads_colour_as_grey_and_grey_as_colour(tmp_path):
    for number in range(3):
        save(tmp_path, f"{number}.png", RGB)
    grey = folder_task(tmp_path, channels=1)
    assert grey.shape == (1, 48, 60)
    assert read_image(tmp_path / "0.png", 1).tobytes() in {
        image for split in grey.load(Path()) for image in contents(split)
    }
    for number in range(3):
        save(tmp_path, f"{number}.png", GREY)
    assert folder_task(tmp_path, channels=3).shape == (3, 48, 60)


def test_a_public_set_in_colour_is_trained_on_in_grey():
    task = Folder(path="open_photos_train", test=["open_photos"], crop=16, channels=1)
    assert task.shape == (1, 16, 16)


def test_mixed_sizes_need_a_crop_and_small_images_are_named(tmp_path):
    for number in range(3):
        save(tmp_path, f"{number}.png", RGB[: 40 + number])
    with pytest.raises(InputError, match=r"3 different sizes: set task\.crop .* 40 at most"):
        folder_task(tmp_path).load(Path())
    task = folder_task(tmp_path, crop=32, crops_per_image=5)
    assert task.shape == (3, 32, 32)
    splits = task.load(Path())
    assert [len(split) for split in splits] == [5, 1, 1]
    assert len({height for split in splits for height in split.sizes[:, 0].tolist()}) == 3
    with pytest.raises(InputError, match=r"0\.png has only 60x40 pixels, fewer than task\.crop=41"):
        folder_task(tmp_path, crop=41).load(Path())


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_truncated_png(folder):
    truncate(save(folder, "bad.png", np.asarray(astronaut())[:48, :60]))


def damage_truncated_jpeg(folder):
    truncate(save(folder, "bad.jpg"))


def damage_empty(folder):
    (folder / "bad.png").write_bytes(b"")


def damage_text(folder):
    (folder / "bad.jpg").write_text("<html>not found</html>")


def damage_bomb(folder):
    Image.new("1", (10000, 10000)).save(folder / "bad.png")
    assert (folder / "bad.png").stat().st_size < 20_000


def damage_float(folder):
    Image.fromarray(GREY.astype(np.float32)).save(folder / "bad.tif")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (damage_truncated_png, "truncated"),
        (damage_truncated_jpeg, "truncated"),
        (damage_empty, "empty"),
        (damage_text, "not in a format"),
        (damage_bomb, r"task\.max_pixels=89478485"),
        (damage_float, "32 bits"),
    ],
)
def test_a_bad_image_is_named_or_left_out_with_a_word(tmp_path, damage, reason):
    for number in range(4):
        save(tmp_path, f"{number}.png")
    damage(tmp_path)
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.raises(InputError, match=rf"bad\.\w+ .*{reason}.*task\.on_bad_image=skip") as error:
        folder_task(tmp_path).load(Path())
    assert "\n" not in str(error.value)
    with pytest.warns(UserWarning, match=r"left out 1 of 5 images .*: bad\."):
        splits = folder_task(tmp_path, on_bad_image="skip").load(Path())
    assert [len(split) for split in splits] == [2, 1, 1]
    assert limit == Image.MAX_IMAGE_PIXELS


def test_a_larger_limit_lets_a_large_image_in(tmp_path):
    for number in range(3):
        save(tmp_path, f"{number}.png")
    for limit in (48 * 60 - 1, 100):  # Pillow only warns up to twice its limit
        with pytest.raises(InputError, match=rf"more pixels than task\.max_pixels={limit}\)"):
            _ = folder_task(tmp_path, max_pixels=limit).shape
    assert folder_task(tmp_path, max_pixels=48 * 60).shape == (3, 48, 60)


@pytest.mark.parametrize(
    ("place", "text"), [("nowhere", "matches no image"), ("", "matches no image"), ("*.png", "no")]
)
def test_nothing_found_is_one_sentence(tmp_path, place, text):
    with pytest.raises(InputError, match=rf"task\.path={tmp_path}.*{text}"):
        _ = folder_task(tmp_path / place).shape


def test_too_few_images_and_mixed_levels_are_refused(tmp_path):
    save(tmp_path, "0.png")
    save(tmp_path, "1.png")
    with pytest.raises(InputError, match="at least 3"):
        _ = folder_task(tmp_path).num_classes
    save(tmp_path, "class/2.png")
    with pytest.raises(InputError, match="both beside and inside"):
        _ = folder_task(tmp_path).num_classes


def test_only_bad_images_is_one_sentence(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(b"")
    with pytest.warns(UserWarning, match="left out 3"), pytest.raises(InputError, match="no readable image"):
        _ = folder_task(tmp_path, on_bad_image="skip").shape


@pytest.mark.skipif(not BSD68.is_dir(), reason=f"no {BSD68}; set RECON_DATA")
def test_real_mixed_sizes_are_read_as_pillow_reads_them():
    task = folder_task(BSD68, crop=64, test_fraction=0.5)
    splits = task.load(Path())
    assert task.shape == (1, 64, 64)
    assert not splits.test.uniform
    with Image.open(BSD68 / "test001.png") as image:
        want = np.asarray(image).tobytes()
    assert want in {i for split in splits for i in contents(split)}
