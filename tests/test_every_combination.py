"""Every model × every offline task, and every degradation × restoration: one step of training, validation and test."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Compose, choices, data_root, slow_if, trained_models
from PIL import Image, ImageFilter
from skimage.data import astronaut
from sklearn.datasets import load_digits

from recon.actions.train import train
from recon.config.construct import find_class
from recon.errors import InputError

QUICK = (
    "trainer.max_steps=1",
    "trainer.limit_train_batches=1",
    "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=1",
    "trainer.enable_progress_bar=false",
    "accelerator=cpu",
    "logger=none",
    "task.batch_size=8",
)
WITHOUT_LABELS = {"photos", "bsd400", "open_photos"}


def task_overrides(task: str, image_folder: Path) -> list[str]:
    """Choose a task, or skip it with the reason when its images are not here."""
    if task == "folder":
        return ["task=folder", f"task.path={image_folder}"]
    if task == "webdataset":
        return ["task=webdataset", f"task.path={shard_of(image_folder)}", "task.num_classes=2"]
    if task in ("bsd400", "open_photos"):
        return [f"task={task}", f"data.root={photographs(image_folder)}"]
    place = {"mnist": "mnist", "fashion_mnist": "fashion-mnist", "cifar10": "cifar10"}.get(task)
    if place and not (data_root() / place).is_dir():
        pytest.skip(f"no {place} below {data_root()} (set RECON_DATA)")
    return [f"task={task}", f"data.root={data_root()}"]


def photographs(image_folder: Path) -> Path:
    """Write windows of photographs as small as the crops allow under the names of the public sets."""
    root = image_folder.parent / "public"
    if not root.exists():
        for folder, count in (("train400", 34), ("bsd68", 2), ("set12", 1), ("open-photos/train", 10),
                              ("open-photos/test", 2), ("set5", 1), ("classic5", 1)):  # fmt: skip
            (root / folder).mkdir(parents=True)
            grey = folder in ("train400", "bsd68", "set12", "classic5")
            for number in range(count):
                window = astronaut()[number * 8 :][:130, :131]
                Image.fromarray(window).convert("L" if grey else "RGB").save(root / folder / f"{number}.png")
    return root


def shard_of(image_folder: Path) -> Path:
    """Write the images of a folder, with the numbers of their subfolders, into one tar shard."""
    path = image_folder.with_suffix(".tar")
    with tarfile.open(path, "w") as tar:
        for image in sorted(image_folder.glob("*/*.png")):
            tar.add(image, image.name)
            label = tarfile.TarInfo(f"{image.stem}.cls")
            label.size = 1
            tar.addfile(label, io.BytesIO(image.parent.name[-1].encode()))
    return path


def take_one_step(config: dict[str, Any], folder: Path) -> dict[str, float]:
    kind = find_class(config["model"]["_target_"], "model")
    if "steps" in config["model"]:  # one step of the fit to one image
        config["model"]["steps"] = config["task"]["batch_size"] = 1
    train(config, folder, {})
    record: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    assert json.loads((folder / "environment.json").read_text())["status"] == "ok"
    assert (folder / "images" / "test.png").stat().st_size > 0
    assert (folder / "checkpoints" / "best.ckpt").exists()
    if config["trainer"]["limit_val_batches"]:
        assert any(name.startswith("val/") for name in record) == kind.trains
    return record


# What takes all images alike, as it builds no net for their size or learns as `restoration` does, has a few.
PAIRS = [
    (model, task)
    for task in choices("task")
    for model in choices("model")
    if {
        "bsd400": model in ("restoration", "baseline"),
        "open_photos": model == "baseline",
        "fashion_mnist": model == "classifier",
    }.get(task, (model in trained_models() and model != "self_supervised") or task in ("digits", "cifar10"))
]


@pytest.mark.parametrize(("model", "task"), [slow_if(pair == ("gan", "mnist"), *pair) for pair in PAIRS])
@pytest.mark.filterwarnings("ignore:.*first 1,000 test images.*")
def test_every_model_on_every_task(model: str, task: str, compose: Compose, image_folder: Path, tmp_path: Path) -> None:
    config = compose(f"model={model}", *task_overrides(task, image_folder), *QUICK)
    if model == "classifier" and task in WITHOUT_LABELS:
        with pytest.raises(InputError, match="model=classifier needs labels"):
            train(config, tmp_path, {})
        return
    record = take_one_step(config, tmp_path)
    assert any(name.startswith(("test/", "bsd68/", "open_photos/")) for name in record)


def degradation_overrides(degradation: str, tmp_path: Path) -> list[str]:
    """Choose a degradation, with files for those that are made of the user's own."""
    digits = [Image.fromarray((image * 15).astype("uint8")) for image in load_digits().images[:40]]
    if degradation == "missing_file":
        Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(tmp_path / "mask.png")
        return [f"degradation={degradation}", f"degradation.path={tmp_path / 'mask.png'}"]
    if degradation == "file":
        for folder in ("clean", "noisy"):
            (tmp_path / folder).mkdir()
        for place, image in enumerate(digits):
            image.save(tmp_path / "clean" / f"{place}.png")
            image.filter(ImageFilter.BLUR).save(tmp_path / "noisy" / f"{place}.png")
        folders = ["task=folder", f"task.path={tmp_path}/clean", f"degradation.path={tmp_path}/noisy"]
        return [f"degradation={degradation}", *folders]
    return [f"degradation={degradation}"]


@pytest.mark.parametrize("degradation", choices("degradation"))
def test_every_degradation_with_restoration(degradation: str, compose: Compose, tmp_path: Path) -> None:
    overrides = degradation_overrides(degradation, tmp_path)
    record = take_one_step(compose("model=restoration", *overrides, *QUICK), tmp_path / "run")
    assert record["test/psnr"] > 0
    assert record["test/psnr_degraded"] > 0


@pytest.mark.parametrize("optimizer", choices("optimizer"))
def test_every_optimizer(optimizer: str, compose: Compose, tmp_path: Path) -> None:
    take_one_step(compose("model=classifier", f"optimizer={optimizer}", *QUICK), tmp_path)


@pytest.mark.parametrize("model", ["classifier", "gan"])
@pytest.mark.parametrize("scheduler", choices("scheduler"))
def test_every_scheduler(scheduler: str, model: str, compose: Compose, tmp_path: Path) -> None:
    take_one_step(compose(f"model={model}", f"scheduler={scheduler}", *QUICK), tmp_path)


@pytest.mark.parametrize("accelerator", ["auto", "cpu", "cpu_bf16"])
@pytest.mark.parametrize("model", choices("model"))
def test_every_accelerator_of_this_machine(accelerator: str, model: str, compose: Compose, tmp_path: Path) -> None:
    quick = [override for override in QUICK if not override.startswith("accelerator")]
    record = take_one_step(compose(f"model={model}", f"accelerator={accelerator}", *quick), tmp_path)
    assert all(value == value for name, value in record.items() if name.startswith("test/"))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["restoration", "gan"])
def test_a_compiled_net_trains(model: str, compose: Compose, tmp_path: Path) -> None:
    take_one_step(compose(f"model={model}", *QUICK, "accelerator.compile=true"), tmp_path)


def test_a_run_without_validation_keeps_the_latest_weights(compose: Compose, tmp_path: Path) -> None:
    quick = [override for override in QUICK if "limit_val" not in override]
    take_one_step(compose("model=restoration", *quick, "trainer.limit_val_batches=0"), tmp_path)


@pytest.mark.parametrize("augment", choices("augment"))
def test_every_augmentation(augment: str, compose: Compose, tmp_path: Path) -> None:
    take_one_step(compose("model=classifier", f"augment={augment}", *QUICK), tmp_path)


@pytest.mark.parametrize("net", choices("model/net"))
def test_every_net_trains_with_a_model_that_takes_it(net: str, compose: Compose, tmp_path: Path) -> None:
    models = {
        "classifier": ("lenet", "cnn", "resnet18", "speednet"),
        "autoencoder": ("dense_autoencoder", "conv_autoencoder", "spatial_autoencoder"),
        "vae": ("vae",),
        "gan": ("dcgan", "resgan"),
        "flow": ("time_unet",),
    }
    model = next((model for model, nets in models.items() if net in nets), "restoration")
    take_one_step(compose(f"model={model}", f"model/net={net}", *QUICK), tmp_path)


@pytest.mark.parametrize("quantiser", choices("model/quantiser"))
def test_every_quantiser(quantiser: str, compose: Compose, tmp_path: Path) -> None:
    record = take_one_step(compose("model=autoencoder", f"model/quantiser={quantiser}", *QUICK), tmp_path)
    assert ("test/bits_per_pixel" in record) == (quantiser != "none")


GANS = ("mnist_dcgan", "mnist_r3gan")  # they compare thousands of generated images


@pytest.mark.parametrize("experiment", [slow_if(name in GANS, name) for name in choices("experiment")])
@pytest.mark.filterwarnings("ignore:.*first 1,000 test images.*")
def test_every_experiment_is_composed_and_takes_a_step(
    experiment: str, compose: Compose, image_folder: Path, tmp_path: Path
) -> None:
    node = compose(f"experiment={experiment}")["task"]
    task = node["_target_"].rsplit(".", 1)[-1]
    public = {"bsd400": "bsd400", "open_photos_train": "open_photos"}.get(node.get("path"))
    name = public or {"MNIST": "mnist", "CIFAR10": "cifar10"}.get(task, task.lower())
    _, root = task_overrides(name, image_folder)
    # The overlay's own size stays: only the amount of work is cut.
    quick = [override for override in QUICK if not override.startswith("task.")]
    take_one_step(compose(f"experiment={experiment}", root, "budget=null", *quick), tmp_path)
