"""What the trainer costs: the step of `python run.py` with its default logging beside a bare PyTorch loop.

One process, one thread, CPU time, the two taken in turn, the median step of each round and the median of the rounds.
`make bench` prints the table.
"""

import itertools
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Compose
from torch import Tensor

from recon import build
from recon.data.loader import PairLoader
from recon.modules.base import Module
from recon.pair import Pair

ROUNDS = 5


class Clocked:
    """A training loader that gives the same batches again and again and notes the CPU time at each."""

    def __init__(self, pairs: list[Pair], steps: int) -> None:
        self.pairs = pairs
        self.steps = steps
        self.times: list[float] = []

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Pair]:
        self.times.clear()
        for pair in itertools.islice(itertools.cycle(self.pairs), self.steps):
            self.times.append(time.process_time())
            yield pair
        self.times.append(time.process_time())

    def median_step(self) -> float:
        """Seconds of the median step, the first fifth left out as warm-up."""
        steps = [after - before for before, after in itertools.pairwise(self.times)]
        return statistics.median(steps[len(steps) // 5 :])


def by_trainer(config: dict[str, Any], loader: Clocked, folder: Path) -> float:
    module, data = made(config)
    trainer = build.trainer(config, module, folder, None)
    data.train_dataloader = lambda: loader
    trainer.fit(module, datamodule=data)
    return loader.median_step()


def by_hand(config: dict[str, Any], loader: Clocked) -> float:
    module, _ = made(config)
    module.train()
    if hasattr(module, "adversarial") and not module.automatic_optimization:
        play(module, loader)
    else:
        optimizer = module.make_optimizer(module.net.parameters())
        for pair in loader:
            optimizer.zero_grad()
            module.step(pair).loss.mean().backward()
            optimizer.step()
    return loader.median_step()


def play(module: Module, loader: Clocked) -> None:
    """The bare loop of a generative adversarial network."""
    generator, discriminator = module.players()
    generator_optimizer, discriminator_optimizer = (module.make_optimizer(net.parameters()) for net in module.players())

    def loss_of(fake: Tensor, pair: Pair) -> Tensor:
        return module.adversarial.discriminator(discriminator(pair.clean, pair.label), discriminator(fake, pair.label))

    for pair in loader:
        with torch.no_grad():
            fake = generator(torch.randn(len(pair.label), module.net.latent_dim), pair.label)
        discriminator_optimizer.zero_grad()
        loss_of(fake, pair).mean().backward()
        discriminator_optimizer.step()
        discriminator.requires_grad_(False)
        fake = generator(torch.randn(len(pair.label), module.net.latent_dim), pair.label)
        generator_optimizer.zero_grad()
        module.adversarial.generator(discriminator(fake, pair.label)).mean().backward()
        generator_optimizer.step()
        discriminator.requires_grad_(True)


def made(config: dict[str, Any]) -> tuple[Module, Any]:
    torch.manual_seed(0)
    task = build.task(config)
    module = build.module(config, task)
    return module, build.data(config, task, module)


CASES = {
    "LeNet 64x1x28x28": (["model=classifier", "model/net=lenet", "task.crop=28", "task.batch_size=64"], 400, 0.90),
    "DCGAN 64x1x28x28": (["model=gan", "model.ema=0", "task.crop=28", "task.batch_size=64"], 30, 0.95),
    "U-Net 64x1x28x28": (["model=restoration", "model/net=unet", "task.crop=28", "task.batch_size=64"], 8, 0.95),
    "DnCNN 16x1x40x40": (["model=restoration", "model/net=dncnn", "task.crop=40", "task.batch_size=16"], 8, 0.95),
}


@pytest.mark.bench
@pytest.mark.parametrize("name", CASES)
def test_the_trainer_costs_little_more_than_a_bare_loop(
    name: str, compose: Compose, tmp_path: Path, image_folder_large: Path
) -> None:
    overrides, steps, least = CASES[name]
    config = compose(
        *overrides, "task=folder", f"task.path={image_folder_large}", "logger=none", "accelerator=cpu",
        "trainer.max_epochs=1", "trainer.limit_val_batches=1",
    )  # fmt: skip
    _, data = made(config)
    store = data.load().train
    whole: PairLoader = data.train_dataloader()
    pairs = [pair for _, pair in zip(range(8), itertools.chain.from_iterable(itertools.repeat(whole)), strict=False)]
    assert len(store) >= config["task"]["batch_size"]
    loader = Clocked(pairs, steps)
    rounds = [(by_trainer(config, loader, tmp_path), by_hand(config, loader)) for _ in range(ROUNDS)]
    trainer, bare = (statistics.median(times) for times in zip(*rounds, strict=True))
    over = statistics.median(one - other for one, other in rounds)
    ratio = statistics.median(other / one for one, other in rounds)
    print(f"\n{name}: bare {bare * 1e3:.2f} ms, trainer {trainer * 1e3:.2f} ms,", end=" ")
    print(f"{over * 1e6:.0f} µs over, ratio {ratio:.3f}")
    assert ratio >= least
    if name.startswith("LeNet"):
        assert over <= 380e-6


@pytest.fixture(scope="session")
def image_folder_large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real digits of two classes, enlarged to 40×40."""
    from PIL import Image
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("large")
    digits = load_digits()
    for place, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        if label < 2:
            (folder / str(label)).mkdir(exist_ok=True)
            picture = Image.fromarray((image * 255 / 16).round().astype("uint8")).resize((40, 40))
            picture.save(folder / str(label) / f"{place:04d}.png")
    return folder
