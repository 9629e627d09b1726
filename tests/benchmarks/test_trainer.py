"""What the trainer costs: the step of `python run.py` with its default logging beside a bare PyTorch loop.

One process, one thread, CPU time. After each step of the trainer the bare loop takes one on the same batch with the
same net, so that both meet the same machine; the figures are medians of five rounds of all steps, those included at
which the trainer draws its bar and reads its losses. `make bench` prints the table.
"""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Compose
from lightning.pytorch import LightningModule, Trainer

from recon import build
from recon.modules.base import Module
from recon.pair import Pair
from recon.training.trainer import make_trainer

Step = Callable[[Pair], None]
ROUNDS = 5


class Paired:
    """A training loader that times the trainer's step on each batch and then a bare step on the same."""

    def __init__(self, pairs: list[Pair], steps: int, bare: Step) -> None:
        self.pairs = pairs
        self.steps = steps
        self.bare = bare
        self.seconds: list[tuple[float, float]] = []  # of the trainer and of the bare loop

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Pair]:
        for pair in itertools.islice(itertools.cycle(self.pairs), self.steps):
            start = time.process_time()
            yield pair
            middle = time.process_time()
            with torch.enable_grad():
                self.bare(pair)
            self.seconds.append((middle - start, time.process_time() - middle))


def plain(module: Module) -> Step:
    """The bare step of a module with one optimiser."""
    optimizer = module.options.optimizer(module.net.parameters())

    def step(pair: Pair) -> None:
        optimizer.zero_grad()
        module.step(pair).loss.mean().backward()
        optimizer.step()

    return step


def adversarial(module: Any) -> Step:
    """The bare step of a generative adversarial network."""
    generator, discriminator = module.nets()
    generator_optimizer, discriminator_optimizer = (module.options.optimizer(net.parameters()) for net in module.nets())

    def step(pair: Pair) -> None:
        latent = torch.randn(2, len(pair.label), module.net.latent_dim)
        with torch.no_grad():
            fake = generator(latent[0], pair.label)
        discriminator_optimizer.zero_grad()
        real_logit, fake_logit = discriminator(pair.clean, pair.label), discriminator(fake, pair.label)
        module.adversarial.discriminator(real_logit, fake_logit).mean().backward()
        discriminator_optimizer.step()
        discriminator.requires_grad_(False)
        generator_optimizer.zero_grad()
        fake_logit = discriminator(generator(latent[1], pair.label), pair.label)
        module.adversarial.generator(fake_logit).mean().backward()
        generator_optimizer.step()
        discriminator.requires_grad_(True)

    return step


def made(config: dict[str, Any]) -> tuple[Module, Any]:
    torch.manual_seed(0)
    task = build.task(config)
    degradation = build.degradation(config, task)
    module = build.module(config, task, degradation)
    return module, build.data(config, task, degradation, module)


# Overrides, steps of a round, and the least ratio of the bare step to the trainer's.
CASES = {
    # The compute is as good as nothing here: what remains is the fixed cost of a step.
    "LeNet 2x1x8x8": (["model=classifier", "model/net=lenet", "task.crop=8", "task.batch_size=2"], 300, 0.0),
    "LeNet 64x1x28x28": (["model=classifier", "model/net=lenet", "task.crop=28", "task.batch_size=64"], 200, 0.91),
    "DCGAN 64x1x28x28": (["model=gan", "model.ema=0", "task.crop=28", "task.batch_size=64"], 15, 0.95),
    "U-Net 64x1x28x28": (["model=restoration", "model/net=unet", "task.crop=28", "task.batch_size=64"], 5, 0.95),
    "DnCNN 16x1x40x40": (["model=restoration", "model/net=dncnn", "task.crop=40", "task.batch_size=16"], 3, 0.95),
}


class Plain(LightningModule):
    """A module with nothing but a training step, to see what Lightning itself costs."""

    def __init__(self, module: Module) -> None:
        super().__init__()
        self.module = module

    def training_step(self, pair: Pair, batch_idx: int) -> torch.Tensor:
        return self.module.step(pair).loss.mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.module.options.optimizer(self.module.net.parameters())


def measured(name: str, compose: Compose, folder: Path, images: Path, barebones: bool = False) -> tuple[float, float]:
    """Print and return how many seconds a step costs over the bare one, and the ratio of the two."""
    overrides, steps, _ = CASES[name]
    config = compose(
        *overrides, "task=folder", f"task.path={images}", "logger=none", "accelerator=cpu",
        "trainer.max_epochs=1", "trainer.limit_val_batches=1",
    )  # fmt: skip
    module, data = made(config)
    twin, _ = made(config)
    twin.train()
    endless = itertools.chain.from_iterable(itertools.repeat(data.train_dataloader()))
    bare = plain(twin) if twin.automatic_optimization else adversarial(twin)
    loader = Paired(list(itertools.islice(endless, 8)), steps * (1 + ROUNDS), bare)
    if barebones:
        Trainer(max_epochs=1, barebones=True, accelerator="cpu").fit(Plain(module), loader)
    else:
        data.train_dataloader = lambda: loader
        make_trainer(config, module, folder, []).fit(module, datamodule=data)
    # The first round is warm-up.
    rounds = [loader.seconds[start : start + steps] for start in range(steps, len(loader.seconds), steps)]
    means = [tuple(map(statistics.fmean, zip(*seconds, strict=True))) for seconds in rounds]
    trainer_step, bare_step = (statistics.median(column) for column in zip(*means, strict=True))
    over = statistics.median(one - other for one, other in means)
    ratio = statistics.median(other / one for one, other in means)
    print(f"\n{name}{' (barebones Lightning)' if barebones else ''}: bare {bare_step * 1e3:.2f} ms,", end=" ")
    print(f"trainer {trainer_step * 1e3:.2f} ms, {over * 1e6:.0f} µs over, ratio {ratio:.3f}")
    return over, ratio


@pytest.mark.bench
@pytest.mark.parametrize("name", CASES)
def test_the_trainer_costs_little_more_than_a_bare_loop(
    name: str, compose: Compose, tmp_path: Path, image_folder_large: Path
) -> None:
    over, ratio = measured(name, compose, tmp_path, image_folder_large)
    least = CASES[name][2]
    assert ratio >= least
    if not least:
        assert over <= 380e-6


@pytest.mark.bench
@pytest.mark.parametrize("name", ["LeNet 2x1x8x8"])
def test_the_trainer_with_its_records_costs_far_less_than_lightning_without_any(
    name: str, compose: Compose, tmp_path: Path, image_folder_large: Path
) -> None:
    ours, _ = measured(name, compose, tmp_path, image_folder_large)
    lightnings, _ = measured(name, compose, tmp_path, image_folder_large, barebones=True)
    assert ours < 0.6 * lightnings


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
