"""What the data module does with devices: each buffer travels once, a mapped one not at all."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT  # noqa: F401  one thread
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from test_mmap import photographs

from recon.data.augment import Augment
from recon.data.datamodule import DataModule
from recon.data.store import ImageStore
from recon.data.tasks.digits import Digits
from recon.degradations import GaussianNoise, MissingFile
from recon.degradations.file import FromFiles
from recon.errors import InputError
from recon.pair import Pair

# PyTorch copies what is moved from "cpu" to "cpu:0", which is a device of another name: a second device for everyone.
OTHER = torch.device("cpu:0")


def on(device: torch.device, module: DataModule) -> DataModule:
    """Give a data module a trainer that works on a device."""
    module.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=device), global_rank=0, world_size=1)
    return module


def digits() -> DataModule:
    task = Digits(batch_size=64, epochs=1, validation=0.1, crop=None)
    return DataModule(task, Path(), GaussianNoise(0.1), Augment(), 0, False)


def test_masks_that_fit_the_crops_but_not_the_images_are_refused_before_training(tmp_path: Path) -> None:
    Image.fromarray(np.eye(4, dtype=np.uint8) * 255).save(tmp_path / "mask.png")
    task = Digits(batch_size=64, epochs=1, validation=0.1, crop=4)
    module = DataModule(task, Path(), MissingFile(tmp_path / "mask.png"), Augment(), 0, fixed_size=False)
    with pytest.raises(InputError, match=r"^degradation\.path: [^\n]+4×4[^\n]+8×8[^\n]+resize=true$"):
        module.load()
    DataModule(task, Path(), MissingFile(tmp_path / "mask.png"), Augment(), 0, fixed_size=True).load()


def test_a_shared_buffer_travels_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module = on(OTHER, digits())
    before = module.load()
    here = {store.buffer.data_ptr() for store in before}
    # PyTorch calls the copy's device "cpu" again.
    place = property(lambda store: torch.device("cpu") if store.buffer.data_ptr() in here else OTHER)
    monkeypatch.setattr(ImageStore, "device", place)
    assert before.train.buffer is before.validation.buffer
    train, validation = module.train_dataloader().source, module.val_dataloader().source
    assert train.buffer.data_ptr() != before.train.buffer.data_ptr(), "this is a copy, as on another device"
    assert train.buffer is validation.buffer
    assert module.load().test.buffer is before.test.buffer, "what is not asked for stays"
    for old, new in ((before.train, train), (before.validation, validation)):
        assert torch.equal(old.gather(torch.arange(5)), new.gather(torch.arange(5)))
        assert torch.equal(old.label, new.label)


def test_the_pairs_are_those_of_the_first_device() -> None:
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        for one, other in zip(getattr(digits(), loader)(), getattr(on(OTHER, digits()), loader)(), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


class Spy(LightningModule):
    """Keeps what it is trained on."""

    automatic_optimization = False

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def training_step(self, pair: Pair, batch_idx: int) -> None:
        self.seen.append(pair.degraded)

    def configure_optimizers(self) -> None:
        return None


@pytest.mark.filterwarnings("ignore:You passed in a `val_dataloader`", "ignore:`LightningModule.configure_optimizers`")
@pytest.mark.parametrize("overfit", [0, 1, 2])
def test_lightning_overfits_on_the_same_pairs_in_every_epoch(overfit: int) -> None:
    spy = Spy()
    trainer = Trainer(
        accelerator="cpu", max_epochs=3, overfit_batches=overfit, limit_train_batches=None if overfit else 2,
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(spy, datamodule=digits())
    first, *others = torch.stack(spy.seen).split(overfit or 2)
    assert len(others) == 2
    assert all(torch.equal(first, other) is bool(overfit) for other in others)


def test_fewer_training_images_than_devices_are_one_sentence() -> None:
    module = DataModule(
        Digits(batch_size=2, epochs=1, validation=1435, crop=None), Path(), GaussianNoise(0.1), None, 0, False
    )
    module.require_images(2)
    with pytest.raises(
        InputError, match=r"^trainer\.devices: 3 devices cannot share 2 training images: give at most 2"
    ):
        module.require_images(3)


def test_nets_of_one_size_refuse_smaller_images(tmp_path: Path) -> None:
    from test_folder import folder_task, save

    for number in range(4):
        save(tmp_path, f"train/{number}.png", np.full((40, 40), number, np.uint8))
    save(tmp_path, "test/0.png", np.zeros((20, 50), np.uint8))
    how = {"crop": 32, "test": str(tmp_path / "test")}
    DataModule(folder_task(tmp_path / "train", **how), Path(), GaussianNoise(0.1), None, 0, fixed_size=False).load()
    with pytest.raises(InputError, match=r"^task\.crop=32 is larger than an image to evaluate, .* 20 pixels"):
        DataModule(folder_task(tmp_path / "train", **how), Path(), GaussianNoise(0.1), None, 0, fixed_size=True).load()


@pytest.mark.parametrize("pairs", [False, True])
def test_a_mapped_store_stays_and_its_batches_travel_as_bytes(tmp_path: Path, monkeypatch, pairs: bool) -> None:
    from test_folder import folder_task

    folder = photographs(tmp_path / "photos")
    degradation = FromFiles(str(photographs(tmp_path / "others"))) if pairs else GaussianNoise(0.1)
    task = folder_task(folder, crop=32, batch_size=4)
    module = on(OTHER, DataModule(task, Path(), degradation, Augment(flip=True), 0, False, tmp_path / "cache"))
    loader = module.train_dataloader()
    assert loader.source.buffer is module.val_dataloader().source.buffer
    moved = []
    to = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda x, *how: moved.append((x.dtype, x.numel(), how)) or to(x, *how))
    pair = next(iter(loader))
    travelled = [(dtype, count) for dtype, count, how in moved if how == (OTHER,)]
    pixels = 4 * 3 * 32 * 32
    assert travelled.count((torch.uint8, pixels)) == 1 + pairs
    assert sum(count for _, count in travelled) <= (1 + pairs) * pixels + 3 * 4
    assert len(pair.index) == 4


def test_the_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    task = Digits(batch_size=64, epochs=1, validation=0.1, crop=None)
    assert DataModule(task, Path("~/data"), GaussianNoise(0.1), None, 0, False).root == Path("/home/somebody/data")
