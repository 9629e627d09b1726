"""Each file is in one split, once, whatever links lead to it; what is left out is said."""

import os
import shutil
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest
from test_folder import RGB, contents, folder_task, save

from recon.data.find import find
from recon.degradations.file import FromFiles
from recon.errors import InputError

IMAGES = {".png"}


def names(pattern: Path | str, base: Path) -> list[str]:
    return [str(path.relative_to(base)) for path in find("task.path", str(pattern), IMAGES).files]


def two_classes(folder: Path) -> Path:
    for number in range(8):
        save(folder, f"{'ab'[number % 2]}/{number}.png", np.roll(RGB, number, 0))
    return folder


def link_upwards(folder: Path) -> None:
    for name in ("a/up", "b/up"):
        (folder / name).symlink_to("..")


def link_to_a_class(folder: Path) -> None:
    (folder / "Latest").symlink_to("a")  # sorted before it


def link_between_classes(folder: Path) -> None:
    (folder / "a/other").symlink_to("../b")
    (folder / "b/0.png").symlink_to("../a/0.png")


def link_hard(folder: Path) -> None:
    for number in range(5):
        os.link(folder / "b/1.png", folder / f"b/x{number}.png")


def link_everything(folder: Path) -> None:
    """More ways through the folders than could ever be walked."""
    for one in range(12):
        for other in range(12):
            (folder / f"a/{one}").mkdir(exist_ok=True)
            (folder / f"a/{one}/to{other}").symlink_to(f"../{other}")


@pytest.mark.parametrize(
    "add", [link_upwards, link_to_a_class, link_between_classes, link_hard, link_everything], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("glob", ["", "/**/*.png"])
def test_links_add_no_image_and_move_none(tmp_path: Path, add, glob: str) -> None:
    folder = two_classes(tmp_path / "photos")
    before = names(f"{folder}{glob}", folder)
    splits = folder_task(f"{folder}{glob}").load(Path())
    add(folder)
    assert names(f"{folder}{glob}", folder) == before == [f"{'ab'[n % 2]}/{n}.png" for n in (0, 2, 4, 6, 1, 3, 5, 7)]
    with pytest.warns(UserWarning, match=r"^task\.path=.*: left out \d+ further names of files and folders.*photos/"):
        after = folder_task(f"{folder}{glob}").load(Path())
    for one, other in zip(splits, after, strict=True):
        assert contents(one) == contents(other)
        assert one.label.tolist() == other.label.tolist()
    assert len({image for split in after for image in contents(split)}) == 8


def test_many_names_of_one_image_are_one_image(tmp_path: Path) -> None:
    first = save(tmp_path, "real/0.png")
    for number in range(6):
        (tmp_path / f"{number}.png").symlink_to(first)
    with pytest.warns(UserWarning, match="left out 5"), pytest.raises(InputError, match="has 1 usable image,"):
        _ = folder_task(f"{tmp_path}/*.png").shape


def test_a_folder_of_links_is_a_folder_of_images(tmp_path: Path) -> None:
    folder = two_classes(tmp_path / "real")
    (tmp_path / "photos").mkdir()
    for path in folder.rglob("*.png"):
        (tmp_path / "photos" / path.name).symlink_to(path)
    assert names(tmp_path / "photos", tmp_path) == [f"photos/{number}.png" for number in range(8)]
    (tmp_path / "linked").symlink_to("real")
    assert names(tmp_path / "linked", tmp_path)[0] == "linked/a/0.png"


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_an_image_in_both_places_is_refused_by_whatever_name(tmp_path: Path, link) -> None:
    folder = two_classes(tmp_path / "photos")
    (tmp_path / "test").mkdir()
    link(folder / "a/0.png", tmp_path / "test/other.png")
    with pytest.raises(InputError, match=r"a/0\.png is in both task\.path and task\.test"):
        _ = folder_task(f"{folder}/*/*.png", test=str(tmp_path / "test")).shape


def test_what_a_name_means_literally_comes_first(tmp_path: Path) -> None:
    for place in ("[b]/x", "b/x", "[b]/y"):
        save(tmp_path, f"{place}/[1].png")
    assert names(tmp_path / "[b]", tmp_path) == ["[b]/x/[1].png", "[b]/y/[1].png"]
    assert names(tmp_path / "[b]/*/*.png", tmp_path) == ["[b]/x/[1].png", "[b]/y/[1].png"]
    assert names(tmp_path / "[b]/**/*.png", tmp_path) == ["[b]/x/[1].png", "[b]/y/[1].png"]
    assert names(tmp_path / "[b]/x/[1].png", tmp_path) == ["[b]/x/[1].png"]
    assert names(tmp_path / "[ab]/*/*.png", tmp_path) == ["b/x/[1].png"]


def test_the_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    two_classes(tmp_path / "photos")
    task = folder_task("~/photos", test="~/test")
    save(tmp_path, "test/a/new.png", np.roll(RGB, 30, 0))
    assert len(task.load(Path()).test) == 1
    with pytest.raises(InputError, match="matches no image"):
        _ = folder_task("~no-such-user/photos").shape


def test_ignored_files_are_counted_and_hidden_ones_are_not(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path, f"{number}.png", np.roll(RGB, number, 0))
    shutil.copy(save(tmp_path, "x.jpg"), tmp_path / "4.jfif")
    (tmp_path / "x.jpg").unlink()
    for name in ("a.pgm", "b.PGM", "c.gif", "README", ".DS_Store", "._0.png", ".cache/5.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("something else")
    (tmp_path / "gone.png").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.warns(UserWarning, match="ignored") as said:
        assert sum(map(len, folder_task(tmp_path).load(Path()))) == 5
    (line,) = (str(warning.message) for warning in said)
    assert line.startswith(f"task.path={tmp_path}: ignored files that are no images by name: 2 .pgm, ")
    kinds = {"2 .pgm", "1 .gif", "1 without suffix", "1 broken link", "1 pipe or device"}
    assert set(line.rpartition(": ")[2].split(", ")) == kinds
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _ = folder_task(f"{tmp_path}/?.png").shape


def test_names_that_look_alike_are_alike(tmp_path: Path) -> None:
    composed, split = (unicodedata.normalize(form, "größe") for form in ("NFC", "NFD"))
    for number in range(3):
        save(tmp_path, f"clean/{composed}/{composed}{number}.png", np.roll(RGB, number, 0))
        save(tmp_path, f"damaged/{split}/{split}{number}.png", np.roll(RGB, number + 3, 0))
        save(tmp_path, f"test/{split}/{number}.png", np.roll(RGB, number + 6, 0))
    folder_task(tmp_path / "clean").load(Path(), degraded=FromFiles(str(tmp_path / "damaged")))
    assert folder_task(tmp_path / "clean", test=str(tmp_path / "test")).load(Path()).test.label.tolist() == [0, 0, 0]
    save(tmp_path, f"clean/{composed}/{split}0.png")
    with pytest.raises(InputError, match="rename one"):
        folder_task(tmp_path / "clean").load(Path(), degraded=FromFiles(str(tmp_path / "damaged")))


def test_a_class_without_a_training_image_is_said(tmp_path: Path) -> None:
    for number in range(20):
        save(tmp_path, f"often/{number}.png", np.roll(RGB, number, 0))
    for name in ("rare", "seldom"):
        for number in range(2):
            save(tmp_path, f"{name}/{number}.png", np.roll(RGB, 20 + number, 0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folder_task(tmp_path, validation=1, test_fraction=0.05).load(Path())
    with pytest.warns(
        UserWarning, match=r"^task\.path=.*: \d of 3 classes have no image to train on, .*: (rare|seldom)"
    ):
        folder_task(tmp_path, validation=10, test_fraction=0.5).load(Path())


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    folder = two_classes(tmp_path / "photos")
    (folder / "a").chmod(0)
    with pytest.raises(InputError, match=r"^task\.path: .*/a cannot be read \(Permission denied\)"):
        _ = folder_task(folder).shape
