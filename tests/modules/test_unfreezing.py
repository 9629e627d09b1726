"""Gradual unfreezing: what trains when, that nothing else moves, and that a resumed training is the same."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import QUICK, Compose, Typed
from lightning.pytorch import Trainer
from test_modules import QUIET, built
from torch import nn

from recon import nets
from recon.errors import InputError
from recon.modules.classification import ClassificationModule
from recon.modules.unfreezing import Unfreezing, groups

FEW = ("task.batch_size=256", "accelerator=cpu", "logger=none", "trainer.enable_progress_bar=false")


@pytest.mark.parametrize(
    ("net", "count"),
    [
        (nets.LeNet(), 5),
        (nets.CNN(), 5),
        (nets.ResNet18(width=8), 10),
        (nets.SpeedNet(), 8),
        (nn.Sequential(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)), nn.Flatten(), nn.LazyLinear(3)), 2),
    ],
    ids=["lenet", "cnn", "resnet18", "speednet", "sequential"],
)
def test_the_groups_of_a_net_are_its_layers_and_blocks(net: nn.Module, count: int) -> None:
    net(torch.rand(2, 1, 28, 28))
    found = groups(net)
    assert len(found) == count
    assert [*dict.fromkeys(net.modules())][-1] in found[-1]  # the head
    held = {id(weight) for layers in found for layer in layers for weight in layer.parameters()}
    assert held == {id(weight) for weight in net.parameters()}
    for layers in found:  # a norm is never away from what it follows
        assert not isinstance(layers[0], nn.BatchNorm2d)


def test_a_shell_is_taken_apart_and_a_weight_of_its_own_trains_last() -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.place = nn.Parameter(torch.zeros(3))
            self.body, self.head = nn.Linear(3, 3), nn.Linear(3, 2)
            self.body.weight.requires_grad_(False)

    shell = nn.Module()
    shell.inner = Inner()
    unfreezing = Unfreezing(2, shell)
    assert unfreezing.groups == [[shell.inner.body], [shell.inner.head]]
    assert [unfreezing.held(epoch) for epoch in range(4)] == [1, 1, 0, 0]
    unfreezing.begin(0, shared=False)
    assert not shell.inner.place.requires_grad
    assert not shell.inner.body.training
    assert shell.inner.head.training
    unfreezing.begin(2, shared=False)
    assert shell.inner.place.requires_grad
    assert shell.inner.body.bias.requires_grad
    assert not shell.inner.body.weight.requires_grad, "what the net itself holds stays so"
    with pytest.raises(InputError, match=r"^unfreeze: all weights of Linear are in one layer"):
        Unfreezing(1, nn.Linear(2, 2))


def trained(module: ClassificationModule, data: Any, epochs: int) -> dict[str, torch.Tensor]:
    Trainer(**{**QUIET, "max_epochs": epochs, "max_steps": -1, "limit_val_batches": 0}).fit(module, datamodule=data)
    return {name: value.clone() for name, value in module.net.state_dict().items()}


@pytest.mark.parametrize("shared", [False, True], ids=["one device", "several"])
def test_in_each_epoch_just_the_groups_whose_time_has_come_change(
    shared: bool, compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On several devices, which this process plays, what is held has a gradient that is thrown away."""
    begin = Unfreezing.begin
    monkeypatch.setattr(Unfreezing, "begin", lambda self, epoch, _: begin(self, epoch, shared))
    for epochs in range(1, 6):
        words = ("model.unfreeze=1", "scheduler=constant", "optimizer=adamw", "optimizer.weight_decay=0.1", *FEW)
        module, data = built(compose("model=classifier", "task=digits", *words))
        assert isinstance(module, ClassificationModule)
        before = {name: value.clone() for name, value in module.net.state_dict().items()}
        after = trained(module, data, epochs)
        moved = [any(not torch.equal(before[name], after[name]) for name in names) for names in names_of(module.net)]
        assert moved == [number >= 5 - epochs for number in range(5)]
        assert all(weight.requires_grad for weight in module.net.parameters())


def names_of(net: nn.Module) -> list[list[str]]:
    """The names of all that each group holds, statistics of its norms too."""
    layers = {id(layer): name for name, layer in net.named_modules()}
    names = net.state_dict()
    return [[name for layer in group for name in names if name.startswith(f"{layers[id(layer)]}.")]
            for group in groups(net)]  # fmt: skip


def weights_of(run: str, checkpoint: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(f"{run}/checkpoints/{checkpoint}.ckpt", weights_only=True)["state_dict"]
    return found


def test_a_training_that_is_resumed_within_an_epoch_is_the_same(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("model=classifier", "model.unfreeze=1", "trainer.max_epochs=4", "model.ema=0.9", "model.sam=0.05", *FEW)
    status, output, errors = typed(*words, "hydra.run.dir=whole")
    assert status == 0, errors
    said = "of 5 groups of layers the last trains at first, one more each epoch, all from epoch 5 on, and there are 4"
    assert f"unfreeze: {said}\n" in output
    step, taken = ClassificationModule.training_step, []

    def interrupt(self: ClassificationModule, pair: Any, batch_idx: int) -> Any:
        taken.append(batch_idx)
        if len(taken) == 10:
            raise KeyboardInterrupt
        return step(self, pair, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(ClassificationModule, "training_step", interrupt)
        assert typed(*words, "checkpoint.steps=1", "hydra.run.dir=cut")[0] == 130
    assert 0 < taken[-1] < 6, "within an epoch"
    status, _, errors = typed("resume=cut")
    assert status == 0, errors
    whole, cut = (weights_of(name, "last") for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    tested = [json.loads(Path(f"{name}/metrics.json").read_text()) for name in ("whole", "cut")]
    assert all(tested[0][name] == tested[1][name] for name in tested[0] if name.startswith(("test/", "val/")))
    # What it costs counts what was never trained too.
    metrics = json.loads(Path("whole/metrics.json").read_text())
    assert metrics["cost/parameters"] == sum(weight.numel() for weight in nets.CNN(image_size=(8, 8)).parameters())


def test_a_run_is_trained_on_from_its_last_layers(typed: Typed) -> None:
    assert typed("model=classifier", "trainer.max_epochs=2", "hydra.run.dir=first", *FEW)[0] == 0
    words = ("init_from=first", "model=classifier", "model.unfreeze=2", "trainer.max_epochs=1", "hydra.run.dir=second")
    status, _, errors = typed(*words, *FEW)
    assert status == 0, errors
    before, after = (weights_of(name, "best") for name in ("first", "second"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"net.classifier.4.weight", "net.classifier.4.bias"}


def test_a_net_of_the_users_own_that_brings_its_weights(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("own_net.py").write_text("""from torch import nn

class Own(nn.Module):
    def __init__(self, channels, num_classes):
        super().__init__()
        self.stem = nn.Conv2d(channels, 4, 3)
        nn.init.constant_(self.stem.weight, 0.5)  # as if they had been read
        self.head = nn.Linear(4, num_classes)

    def forward(self, x):
        return self.head(self.stem(x).relu().mean((2, 3)))
""")
    (folder := Path("conf/model/net")).mkdir(parents=True)
    (folder / "own.yaml").write_text("# mine\n_target_: own_net.Own\n")
    monkeypatch.setenv("RECON_TRUST", "own_net")
    words = ("--config-dir", "conf", "model=classifier", "model/net=own", "model.unfreeze=1", "hydra.run.dir=own")
    status, output, errors = typed(*words, *QUICK)
    assert status == 0, errors
    assert "unfreeze: of 2 groups" in output
    weights = weights_of("own", "best")
    assert torch.equal(weights["net.stem.weight"], torch.full((4, 1, 3, 3), 0.5))


@pytest.mark.parametrize("value", ["-1", "1.5", "true", "all"])
def test_a_number_of_epochs_that_makes_no_sense_is_told(value: str, compose: Compose) -> None:
    with pytest.raises(InputError, match=r"^model\.unfreeze: [^\n]+$"):
        built(compose("model=classifier", "task=digits", f"model.unfreeze={value}"))
