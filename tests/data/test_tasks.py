import io
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, data_root
from hydra.utils import instantiate
from omegaconf import OmegaConf
from skimage.data import astronaut
from sklearn.datasets import load_digits

from recon.config.construct import construct, find_class
from recon.data.datamodule import DataModule
from recon.data.task import Task
from recon.data.tasks import digits as of_digits
from recon.data.tasks.cifar10 import CIFAR10, _read_records, _unpack
from recon.data.tasks.mnist import MNIST
from recon.degradations import GaussianNoise
from recon.errors import InputError
from recon.runs.older import MOVED, read_recorded

DATA = data_root()
FOLLOWS_THE_MODEL = {"batch_size": 64, "epochs": 1}  # by the recipe of conf/recipe


def make(name, **settings):
    return instantiate(
        OmegaConf.merge(OmegaConf.load(ROOT / "conf" / "task" / f"{name}.yaml"), FOLLOWS_THE_MODEL, settings),
        _convert_="all",
    )


def needs(folder):
    return pytest.mark.skipif(not (DATA / folder).is_dir(), reason=f"no {folder} in {DATA}; set RECON_DATA")


def pixels(store, place):
    return store.gather(torch.tensor([place]))[0].numpy()


def contents(store):
    return [pixels(store, i).tobytes() for i in range(len(store))]


# The configs.


@pytest.mark.parametrize("path", sorted((ROOT / "conf" / "task").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_config_begins_with_a_comment_explains_each_key_and_builds_a_task_without_reading_any_data(path):
    first, *lines = path.read_text().splitlines()
    assert first.startswith("# ")
    assert all("_target_" in line or " # " in line for line in lines)
    # A shard must be there, but is not read.
    of_the_user = {"folder": {"path": "/nowhere"}, "webdataset": {"path": __file__}}
    task = make(path.stem, **of_the_user.get(path.stem, {}))
    assert isinstance(task, Task)
    if path.stem not in of_the_user:
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
    node = OmegaConf.load(ROOT / "conf" / "task" / "mnist.yaml")
    task = {**OmegaConf.merge(node, FOLLOWS_THE_MODEL), **settings}
    task.pop("_target_")
    with pytest.raises(InputError, match=key):
        MNIST(**task)


def test_a_crop_larger_than_the_images_is_refused_and_a_smaller_one_is_the_shape():
    assert make("cifar10", crop=24).shape == (3, 24, 24)
    with pytest.raises(InputError, match=r"task\.crop=40 is larger than the images \(32x32\)"):
        _ = make("cifar10", crop=40).shape


def test_validation_that_leaves_nothing_to_train_is_refused():
    with pytest.raises(InputError, match=r"task\.validation=1437"):
        make("digits", validation=1437).load(Path())


@pytest.mark.parametrize("old", sorted(name for name in MOVED if name.startswith("recon.data.")))
def test_an_older_run_folder_names_the_same_task(old, tmp_path):
    choice = next(path for path in (ROOT / "conf" / "task").glob("*.yaml") if f": {MOVED[old]}\n" in path.read_text())
    today = {"task": OmegaConf.to_container(OmegaConf.load(choice))}
    older = {"task": {**today["task"], "_target_": old}}
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(older)))
    assert read_recorded(tmp_path / "config.yaml") == today
    assert find_class(MOVED[old], "task").__name__ == old.rsplit(".", 1)[1]


OWN_TASK = """
import numpy as np
from recon.data.store import ImageStore
from recon.data.task import Splits, Task


class Squares(Task):
    shape, num_classes = (1, 6, 6), 2

    def load(self, root):
        images = np.arange(40, dtype=np.uint8)[:, None, None, None].repeat(6, 2).repeat(6, 3)
        train, test = (ImageStore.from_arrays(part, np.arange(20) % 2) for part in np.split(images, 2))
        return self.split(train, test)
"""


def test_a_task_of_the_users_own_is_one_file_that_recon_does_not_know(tmp_path, monkeypatch):
    (tmp_path / "squares_.py").write_text(OWN_TASK)
    monkeypatch.syspath_prepend(str(tmp_path))
    node = {"_target_": "squares_.Squares", "batch_size": 4, "epochs": 1, "validation": 3, "crop": None}
    with pytest.raises(InputError, match="RECON_TRUST"):
        construct(node, "task")
    monkeypatch.setenv("RECON_TRUST", "squares_")
    module = DataModule(construct(node, "task"), tmp_path, GaussianNoise(0.1), None, 0, False)
    counts = [
        sum(len(pair.index) for pair in loader) for loader in (module.train_dataloader(), module.val_dataloader())
    ]
    assert counts == [16, 3]
    first = module.test_dataloader().preview(2).pair
    assert (first.clean * 255).round()[:, 0, 0, 0].tolist() == [20, 21]
    assert first.label.tolist() == [0, 1]


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


def test_digits_are_the_same_where_scikit_learn_keeps_them_elsewhere(monkeypatch):
    read = of_digits._table()
    monkeypatch.setattr(of_digits, "find_spec", lambda name: None)
    np.testing.assert_array_equal(of_digits._table(), read)


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
    store = _read_records([tmp_path / "batch.bin"], 20)
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
    _unpack(archive, folder, ["a.bin"])
    assert [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*")) if p.is_file()] == [
        "set.tar.gz",
        "target/bin/a.bin",
    ]
    assert (folder / "a.bin").read_bytes() == b"data"


def test_a_missing_set_without_a_network_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name, kind in {"mnist": MNIST, "cifar10": CIFAR10}.items():
        monkeypatch.setattr(kind, "urls", ["http://127.0.0.1:9"])
        with pytest.raises(InputError, match=r"could not be downloaded.*data\.root"):
            make(name).load(tmp_path)


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
