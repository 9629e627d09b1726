"""Wrong settings of every task: one sentence that names the key, before any work."""

import math
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from recon.config.construct import construct
from recon.data.tasks.folder import Folder
from recon.errors import InputError

HUGE = 10**30
WRONG = {
    "batch_size": (0, -1, 1.5, True, math.nan, None, "abc"),
    "epochs": (0, -3, 0.5, math.inf),
    "validation": (0, -1, 0.0, 1.0, 1.5, math.nan, -0.1, True, None, HUGE),
    "crop": (0, -8, 2.5, HUGE, True),
    "crops_per_image": (0, -1, 1.5, 10**9, HUGE),
    "test_fraction": (0, 1, 0.0, 1.0, math.nan, 0.999),
    "max_pixels": (0, -1, 2.5),
    "on_bad_image": ("ignore", None),
    "shuffle": (-1, 1.5),
    "workers": (-1, 0.5, HUGE),
    "num_classes": (-1, 2.5),
    "channels": (0, 2, 4),
}


def wrong_settings() -> Iterator[tuple[str, str, Any]]:
    for choice in ("digits", "photos", "folder", "webdataset"):
        known = OmegaConf.load(ROOT / "conf" / "task" / f"{choice}.yaml")
        for key, values in WRONG.items():
            yield from ((choice, key, value) for value in values if key in known)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """A folder and a shard of ten images."""
    folder = tmp_path_factory.mktemp("images")
    with tarfile.open(folder / "0.tar", "w") as tar:
        for number in range(10):
            path = folder / f"{number}.png"
            Image.fromarray(np.full((16, 16, 3), number, np.uint8)).save(path)
            tar.add(path, path.name)
    return {"folder": {"path": f"{folder}/*.png"}, "webdataset": {"path": f"{folder}/0.tar"}}


def build_and_load(node: dict[Any, Any]) -> None:
    """What a run does with a task before anything is trained."""
    task = construct(node, "task")
    _ = task.shape
    task.load(Path())


@pytest.mark.parametrize(("choice", "key", "value"), list(wrong_settings()))
def test_a_wrong_setting_is_one_sentence_that_begins_with_its_key(
    places: dict[str, dict[str, str]], choice: str, key: str, value: Any
) -> None:
    config = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "task" / f"{choice}.yaml"))
    assert isinstance(config, dict)
    if key == "crops_per_image" and choice == "folder":
        config["crop"] = 8
    with pytest.raises(InputError) as error:
        build_and_load({**config, "epochs": 1, **places.get(choice, {}), key: value})
    sentence = str(error.value)
    assert re.match(rf"task\.{key}[=: ]", sentence) or f"task.{key}={value}" in sentence, sentence
    assert "\n" not in sentence


def test_the_defaults_of_a_folder_are_those_of_its_file() -> None:
    node = OmegaConf.load(ROOT / "conf" / "task" / "folder.yaml")
    assert Folder("photos") == instantiate(node, path="photos")
