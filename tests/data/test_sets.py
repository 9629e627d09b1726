"""Public sets by their names: found under their usual folders, tested each alone, damaged as if they were alone."""

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut, camera

from recon.data.sets import SETS, folder_of
from recon.data.tasks.folder import Folder
from recon.degradations import GaussianNoise
from recon.errors import InputError

GREY, RGB = camera()[100:148, 200:260], astronaut()[40:88, 180:240]
TYPED = {
    "train400": "bsd400", "BSD100": "bsd100", "BSDS100": "bsd100", "B100": "bsd100", "Urban100": "urban100",
    "Kodak24": "kodak24", "McMaster": "mcmaster", "Manga109": "manga109", "LIVE1": "live1", "CBSD68": "cbsd68",
    "Set14": "set14", "Set 5": "set5", "DIV2K_train_HR": "div2k",
}  # fmt: skip


@pytest.fixture
def root(tmp_path):
    for folder, count, image in (("Train-400", 6, GREY), ("BSD68", 5, GREY), ("Set12", 3, GREY[:, ::-1]),
                                 ("Set5", 2, RGB)):  # fmt: skip
        (tmp_path / folder).mkdir()
        for number in range(count):
            suffix = ("png", "bmp", "tif")[number % 3]
            Image.fromarray(np.roll(image, number, 0)).save(tmp_path / folder / f"{number}.{suffix}")
    return tmp_path


def task(root, **settings):
    made = Folder(**{"path": "bsd400", "validation": 1, "crop": 16, **settings})
    made.root = root
    return made


@pytest.mark.parametrize("folder", TYPED)
def test_a_set_is_found_under_its_usual_names(folder, tmp_path):
    (tmp_path / folder).mkdir()
    assert folder_of(TYPED[folder], tmp_path) == tmp_path / folder
    assert [name for name in SETS if folder_of(name, tmp_path)] == [TYPED[folder]]


def test_the_clean_images_of_a_set_with_degraded_ones_are_taken(tmp_path):
    for inner in ("HR", "LR_bicubic"):
        (tmp_path / "Urban100" / inner).mkdir(parents=True)
    assert folder_of("urban100", tmp_path) == tmp_path / "Urban100" / "HR"


def test_each_set_stands_for_itself_with_the_channels_of_the_training(root):
    splits = task(root, test=["bsd68", "set12", "set5"]).load(root)
    assert dict(splits.test.sets) == {"bsd68": 5, "set12": 3, "set5": 2}
    assert splits.test.channels == 1
    for number, image in ((0, GREY), (5, GREY[:, ::-1])):
        assert np.array_equal(splits.test.gather(torch.tensor([number]))[0, 0], image)
    assert splits.test.names.tolist()[5] == "0.png"
    # All formats of a set are read.
    assert len(splits.train) + len(splits.validation) == 6


def test_the_damage_of_an_image_does_not_depend_on_the_other_sets(root):
    loaders = [
        task(root, test=test).load(root).test.loader("test", 4, GaussianNoise(0.1))
        for test in (["bsd68", "set12"], ["set12"], "set12", str(root / "Set12"))
    ]
    together, *alone = [loader.pair(torch.tensor([place])) for loader, place in zip(loaders, (7, 2, 2, 2), strict=True)]
    for pair in alone:
        assert torch.equal(pair.clean, together.clean)
        assert torch.equal(pair.degraded, together.degraded)
    shown = loaders[0].preview(4).pair.clean
    assert torch.equal(shown[2], loaders[1].preview(1).pair.clean[0])  # as many of each set


def test_folders_of_ones_own_are_sets_by_their_last_word(root):
    made = task(root, test=["bsd68", str(root / "Set12"), str(root / "Set5" / "*.png")])
    assert made.test_sets == ("bsd68", "Set12", "Set5")


@pytest.mark.parametrize(
    ("test", "said"),
    [
        (["set14"], r"task\.test=set14 is not there: .*Set14|set14; get it from https://"),
        (["bsd68", "bsd68"], "different sets"),
        (["a/x", "b/x"], "different sets"),
        (["val"], "other than"),
        ([], r"task\.test=\[\]"),
        ([7], "different sets"),
        (["bsd400"], "both task.path and task.test"),
        (["bsd6"], "matches no image"),
    ],
)
def test_a_wrong_set_is_refused_in_a_sentence(root, test, said):
    with pytest.raises(InputError, match=said):
        task(root, test=test).load(root)


def test_images_smaller_than_the_crops_are_refused(root):
    with pytest.raises(InputError, match=r"fewer than task\.crop=49"):
        task(root, test=["bsd68"], crop=49).load(root)
