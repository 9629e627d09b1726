import io
import os
import struct
import tarfile
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import ExifTags, Image
from skimage.data import astronaut, camera
from sklearn.datasets import load_digits

from recon.data import sources
from recon.data.sources import read_image
from recon.errors import InputError

REPOSITORY = Path(__file__).parents[2]
DATA = Path(os.environ.get("RECON_DATA", REPOSITORY.parent / "shared" / "data"))
RGB = np.ascontiguousarray(astronaut()[40:88, 180:240])  # 48 rows, 60 columns
GREY = np.ascontiguousarray(camera()[100:148, 200:260])


def make(name, **settings):
    return instantiate(OmegaConf.merge(OmegaConf.load(REPOSITORY / "conf" / "task" / f"{name}.yaml"), settings))


def needs(folder):
    return pytest.mark.skipif(not (DATA / folder).is_dir(), reason=f"no {folder} in {DATA}; set RECON_DATA")


def pixels(store, place):
    return store.gather(torch.tensor([place]))[0].numpy()


def contents(store):
    return [pixels(store, i).tobytes() for i in range(len(store))]


# The configs.


@pytest.mark.parametrize("path", sorted((REPOSITORY / "conf" / "task").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_config_begins_with_a_comment_explains_each_key_and_builds_a_task_without_reading_any_data(path):
    first, *lines = path.read_text().splitlines()
    assert first.startswith("# ")
    assert all("_target_" in line or " # " in line for line in lines)
    task = make(path.stem, path="/nowhere") if path.stem == "folder" else make(path.stem)
    assert isinstance(task, sources.Task)
    if path.stem != "folder":
        assert len(task.shape) == 3
        assert task.num_classes >= 0


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"batch_size": 0}, "task.batch_size=0"),
        ({"epochs": 1.5}, "task.epochs=1.5"),
        ({"epochs": "many"}, "task.epochs=many"),
        ({"validation": 1.5}, "task.validation=1.5"),
        ({"validation": 0}, "task.validation=0"),
        ({"crop": 0}, "task.crop=0"),
    ],
)
def test_a_number_out_of_range_is_refused(settings, key):
    task = {**OmegaConf.load(REPOSITORY / "conf" / "task" / "mnist.yaml"), **settings}
    task.pop("_target_")
    with pytest.raises(InputError, match=key):
        sources.MNIST(**task)


def test_a_crop_larger_than_the_images_is_refused_and_a_smaller_one_is_the_shape():
    assert make("cifar10", crop=24).shape == (3, 24, 24)
    with pytest.raises(InputError, match=r"task\.crop=40 is larger than the images \(32x32\)"):
        _ = make("cifar10", crop=40).shape


def test_validation_that_leaves_nothing_to_train_is_refused():
    with pytest.raises(InputError, match=r"task\.validation=1437"):
        make("digits", validation=1437).load(Path())


# The public sets.


def test_digits_are_those_of_scikit_learn():
    splits = make("digits").load(Path())
    assert [len(split) for split in splits] == [1257, 180, 360]
    truth = load_digits()
    restored = splits.test.gather(torch.arange(360)).numpy()[:, 0] * (16 / 255)
    np.testing.assert_array_equal(np.rint(restored), truth.images[1437:])
    assert splits.test.label.tolist() == truth.target[1437:].tolist()
    assert splits.test.gather(torch.arange(360)).max() == 255
    # Train and validation together are the first 1,437, each once, with its label.
    offset = torch.cat([splits.train.offset, splits.validation.offset])
    label = torch.cat([splits.train.label, splits.validation.label])
    assert sorted(offset.tolist()) == [64 * i for i in range(1437)]
    assert (torch.from_numpy(truth.target)[offset // 64] == label).all()


def test_the_splits_are_the_same_every_time():
    one, other = make("digits").load(Path()), make("digits").load(Path())
    assert all(torch.equal(a.offset, b.offset) for a, b in zip(one, other, strict=True))


MNIST_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
MNIST_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.parametrize(
    ("name", "folder", "first", "test_first", "histogram", "test_histogram", "mean"),
    [
        # Means of train in [0,1] as the literature normalises by: 0.1307 and 0.2860.
        pytest.param(
            *("mnist", "mnist", [5, 0, 4, 1, 9], [7, 2, 1, 0, 4], MNIST_TRAIN, MNIST_TEST, 0.1307),
            marks=needs("mnist"),
        ),
        pytest.param(
            *("fashion_mnist", "fashion-mnist", [9, 0, 0, 3, 0], [9, 2, 1, 1, 6], [6000] * 10, [1000] * 10, 0.2860),
            marks=needs("fashion-mnist"),
        ),
    ],
)
def test_an_idx_set_is_the_published_one(name, folder, first, test_first, histogram, test_histogram, mean):
    task = make(name)
    train, validation, test = task.load(DATA)
    assert (len(train), len(validation), len(test)) == (55000, 5000, 10000)
    assert {tuple(split.shape[0].tolist()) for split in (train, validation, test)} == {task.shape}
    offset, label = torch.cat([train.offset, validation.offset]), torch.cat([train.label, validation.label])
    order = offset.argsort()
    assert (offset[order] == torch.arange(60000) * 784).all()
    assert label[order][:5].tolist() == first
    assert test.label[:5].tolist() == test_first
    assert label.bincount().tolist() == histogram
    assert test.label.bincount().tolist() == test_histogram
    assert train.buffer.float().mean().item() / 255 == pytest.approx(mean, abs=5e-5)


@needs("cifar10/cifar-10-batches-bin")
def test_cifar10_is_the_published_one_and_an_excerpt_is_never_silent():
    whole = (DATA / "cifar10/cifar-10-batches-bin/test_batch.bin").is_file()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        train, validation, test = make("cifar10").load(DATA)
    assert any("first 1,000 test images" in str(w.message) for w in said) != whole
    assert len(test) == (10000 if whole else 1000)
    assert test.label[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    label = torch.cat([train.label, validation.label])[torch.cat([train.offset, validation.offset]).argsort()]
    assert label[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert len(label) % 10000 == 0
    assert len(validation) == len(label) // 10
    # The per-channel means that the literature normalises by are 0.4914, 0.4822, 0.4465 over all 50,000.
    mean = train.buffer.view(-1, 3, 1024).float().mean((0, 2)) / 255
    assert mean.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=5e-3)


def records(count):
    """Digits as CIFAR-10 records: 8x8 enlarged to 32x32, three equal channels."""
    digits = load_digits()
    images = np.kron(digits.images[:count] * 15, np.ones((4, 4))).astype(np.uint8)
    return np.concatenate(
        [digits.target[:count, None].astype(np.uint8), np.repeat(images[:, None], 3, 1).reshape(count, -1)], axis=1
    )


def test_cifar10_records_are_label_then_red_green_blue_rows(tmp_path):
    written = records(20)
    written[:, 1025:2049] //= 2
    written.tofile(tmp_path / "batch.bin")
    store = sources._read_records([tmp_path / "batch.bin"], 20)
    assert store.label.tolist() == load_digits().target[:20].tolist()
    red, green, blue = pixels(store, 3)
    np.testing.assert_array_equal(red, written[3, 1:1025].reshape(32, 32))
    np.testing.assert_array_equal(green, red // 2)
    np.testing.assert_array_equal(blue, red)


def test_a_damaged_cifar10_file_is_named(tmp_path):
    folder = tmp_path / "cifar10/cifar-10-batches-bin"
    folder.mkdir(parents=True)
    records(20).tofile(folder / "data_batch_1.bin")
    records(20).tofile(folder / "test_first1000.bin")
    with pytest.warns(UserWarning, match="1 of the 5"), pytest.raises(InputError, match=r"data_batch_1\.bin is not"):
        make("cifar10").load(tmp_path)


def test_an_archive_gives_only_the_wanted_files(tmp_path):
    archive, folder = tmp_path / "set.tar.gz", tmp_path / "target" / "bin"
    with tarfile.open(archive, "w:gz") as tar:
        for name in ("bin/a.bin", "../evil.bin", "bin/extra.txt"):
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"data"))
    sources._unpack(archive, folder, ["a.bin"])
    assert [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*")) if p.is_file()] == [
        "set.tar.gz",
        "target/bin/a.bin",
    ]
    assert (folder / "a.bin").read_bytes() == b"data"


def test_a_missing_set_without_a_network_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("MNIST", "CIFAR10"):
        monkeypatch.setattr(getattr(sources, name), "urls", ["http://127.0.0.1:9"])
        with pytest.raises(InputError, match=r"could not be downloaded.*data\.root"):
            make(name.lower()).load(tmp_path)


# The photographs.


def test_photos_are_decoded_whole_and_test_photographs_are_not_trained_on():
    task = make("photos")
    assert (task.shape, task.num_classes) == ((3, 64, 64), 0)
    train, validation, test = task.load(Path())
    assert (len(train), len(validation), len(test)) == (4 * 64, 1, 2)
    assert sorted(map(tuple, test.sizes.tolist())) == [(300, 451), (400, 600)]
    parts = [set(contents(split)) for split in (train, validation, test)]
    assert [len(part) for part in parts] == [4, 1, 2]
    assert len(set.union(*parts)) == 7
    assert astronaut().transpose(2, 0, 1).tobytes() in parts[0] | parts[1]
    assert train.crop(*torch.tensor([[0, 70], [9, 0], [0, 300]]), (64, 64)).shape == (2, 3, 64, 64)


@pytest.mark.parametrize("crop", [None, 301])
def test_photos_need_a_crop_that_fits(crop):
    with pytest.raises(InputError, match=r"task\.crop"):
        make("photos", crop=crop).load(Path())


# The user's own images.


def save(folder, name, array=RGB, **options):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def folder_task(path, **settings):
    return make("folder", path=str(path), **{"validation": 1, **settings})


def png16(array):
    """A 16-bit PNG (H,W) or (H,W,3), which Pillow cannot write in colour."""
    height, width, *channels = array.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2 if channels else 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    chunks = (struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.png", {}), ("a.bmp", {}), ("a.tif", {}), ("a.TIFF", {"format": "tiff"}), ("a.webp", {"lossless": True})],
)
@pytest.mark.parametrize("array", [RGB, GREY], ids=["rgb", "grey"])
def test_lossless_formats_are_read_exactly(tmp_path, name, options, array):
    path = save(tmp_path, name, array, **options)
    want = array.transpose(2, 0, 1) if array.ndim == 3 else array[None]
    np.testing.assert_array_equal(read_image(path, len(want)), want)


def test_jpeg_is_read_as_pillow_decodes_it(tmp_path):
    path = save(tmp_path, "a.jpg", RGB, quality=95)
    got = read_image(path, 3)
    np.testing.assert_array_equal(got, np.asarray(Image.open(path)).transpose(2, 0, 1))
    assert np.abs(got.astype(int) - RGB.transpose(2, 0, 1)).mean() < 4


def test_alpha_is_dropped_and_a_palette_looked_up(tmp_path):
    alpha = np.full((*RGB.shape[:2], 1), 128, np.uint8)
    np.testing.assert_array_equal(
        read_image(save(tmp_path, "a.png", np.concatenate([RGB, alpha], 2)), 3), RGB.transpose(2, 0, 1)
    )
    palette = Image.fromarray(RGB).quantize(32)
    palette.save(tmp_path / "p.png")
    assert Image.open(tmp_path / "p.png").mode == "P"
    np.testing.assert_array_equal(
        read_image(tmp_path / "p.png", 3), np.asarray(palette.convert("RGB")).transpose(2, 0, 1)
    )
    Image.fromarray(GREY).convert("LA").save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_image(tmp_path / "la.png", 1), GREY[None])


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_scaled_and_not_cut_off(tmp_path, suffix):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(png16(values)) if suffix == "png" else Image.fromarray(values).save(path)
    want = np.rint(values / 257).astype(np.uint8)[None]
    np.testing.assert_array_equal(read_image(path, 1), want)
    np.testing.assert_array_equal(read_image(path, 3), np.repeat(want, 3, 0))


def test_16_bit_colour_keeps_its_high_byte(tmp_path):
    values = RGB.astype(np.uint16) * 256 + 77
    (tmp_path / "a.png").write_bytes(png16(values))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 3), RGB.transpose(2, 0, 1))


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


@needs("bsd68")
def test_real_mixed_sizes_are_read_as_pillow_reads_them():
    task = folder_task(DATA / "bsd68", crop=64, test_fraction=0.5)
    splits = task.load(Path())
    assert task.shape == (1, 64, 64)
    assert not splits.test.uniform
    with Image.open(DATA / "bsd68" / "test001.png") as image:
        want = np.asarray(image).tobytes()
    assert want in {i for split in splits for i in contents(split)}
