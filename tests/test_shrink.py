"""`action=shrink`: pruned nets against the same channels set to zero, and runs that are used like any other."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import QUICK, ROOT, Compose, Typed, choices, slow_if
from torch import nn

import recon
from recon import nets
from recon.actions.train import train
from recon.errors import InputError
from recon.losses import soft_targets
from recon.nets.pruned import Pruned
from recon.shrink import prune
from recon.shrink.prune import multiply_adds, pruned

pytest.importorskip("torch_pruning", reason="the shrink extra is not installed")


@pytest.fixture(autouse=True)
def times_of_three_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recon.export.latency._SECONDS", 0.0)


# Nets in which a channel of zeros is no channel: without a norm over channels, and without gates.
PLAIN = {
    "lenet": lambda: (nets.LeNet(), 1),
    "cnn": lambda: (nets.CNN(dropout=0.0), 1),
    "resnet18": lambda: (nets.ResNet18(width=8), 1),
    "dncnn": lambda: (nets.DnCNN(depth=4, width=12), 1),
    "unet": lambda: (nets.UNet(channels=1, widths=(8, 16)), 1),
    "dru": lambda: (nets.DRU(channels=1, widths=(8, 16), blocks=1), 1),
    "edsr": lambda: (nets.EDSR(scale=2, blocks=1, width=12), 1),
}
OTHERS = {
    "cvanet": lambda: (nets.CVANet(width=8, blocks=1), 1),
    "gated_unet": lambda: (nets.GatedUNet(in_channels=2, widths=(8, 16)), 2),
    "nafnet": lambda: (nets.NAFNet(width=8, encoder=(1,), decoder=(1,)), 1),
    "ffdnet": lambda: (nets.FFDNet(depth=3, width=12), 1),
}


def trained_alike(net: nn.Module) -> nn.Module:
    """Give a net weights as of a training: nothing is zero, and batch norm has statistics."""
    generator = torch.Generator().manual_seed(0)
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            noise = torch.rand(value.shape, generator=generator)
            value.copy_(0.5 + noise if "running_var" in name else value + 0.1 * (noise - 0.5))
    return net.eval()


@pytest.mark.parametrize("name", PLAIN)
def test_a_pruned_net_is_the_net_with_these_channels_at_zero(name: str) -> None:
    made, channels = PLAIN[name]()
    net, image = trained_alike(made), torch.rand(1, channels, 28, 28, generator=torch.Generator().manual_seed(1))
    layers = list(prune._layers(net, image))
    assert layers
    cuts = {layer.name: prune._first(layer.order, 0.5) for layer in layers}
    smaller, zeroed = prune._without(net, image, cuts), net
    with torch.no_grad():
        for root, cut in cuts.items():
            for item in prune._graph(zeroed, image).get_pruning_group(
                zeroed.get_submodule(root), prune._graph(zeroed, image).get_pruner_of_module(
                    zeroed.get_submodule(root)).prune_out_channels, cut):  # fmt: skip
                layer = item.dep.target.module
                if "out_channels" in item.dep.handler.__name__ and hasattr(layer, "weight"):
                    layer.weight[item.idxs] = 0
                    if layer.bias is not None:
                        layer.bias[item.idxs] = 0
        torch.testing.assert_close(smaller(image), zeroed(image), rtol=1e-4, atol=1e-5)
    assert sum(w.numel() for w in smaller.parameters()) < 0.8 * sum(w.numel() for w in net.parameters())


def test_channels_that_do_nothing_go_first() -> None:
    net = trained_alike(nets.CNN(widths=(8, 8), hidden=8, dropout=0.0))
    dead = {"features.0": [1, 2, 5, 7], "features.4": [0, 3, 4, 6]}
    following = {"features.0": "features.4", "features.4": "classifier.2"}
    for name, channels in dead.items():
        convolution, norm = net.get_submodule(name), net.features[int(name[9:]) + 1]
        after = net.get_submodule(following[name])
        with torch.no_grad():
            for weights in (convolution.weight, norm.weight, norm.bias):
                weights[channels] = 0
            after.weight.view(len(after.weight), 8, -1)[:, channels] = 0
            net.classifier[2].weight[:4] = net.classifier[2].bias[:4] = net.classifier[4].weight[:, :4] = 0
    image = torch.rand(1, 1, 28, 28)
    smaller = pruned(net, image, 0.4)
    assert smaller.shapes["features.4.weight"] == [4, 4, 3, 3]
    images = torch.rand(5, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(smaller.net(images), net(images))


@pytest.mark.parametrize("name", [*PLAIN, *OTHERS])
def test_a_share_of_the_multiply_adds_is_kept_and_rebuilt_from_shapes(name: str) -> None:
    make = {**PLAIN, **OTHERS}[name]
    made, channels = make()
    net, image = trained_alike(made), torch.rand(1, channels, 28, 28)
    smaller = pruned(net, image, 0.5)
    assert smaller.before == multiply_adds(net, image)
    assert smaller.after == multiply_adds(smaller.net, image)
    assert 0.3 * smaller.before < smaller.after <= 0.5 * smaller.before
    again = Pruned(make()[0], smaller.shapes)
    assert type(again) is type(net)
    again.load_state_dict(smaller.net.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(image), smaller.net(image))
    assert str(again) == str(smaller.net), "layers know their numbers of channels"


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ({"noise.0.weight": [99, 1, 3, 3]}, "no part of this net, which has it of [12, 1, 3, 3]"),
        ({"noise.0.weight": [0, 1, 3, 3]}, "no part"),
        ({"noise.0.weight": [4]}, "no part"),
        ({"noise.0.weight": "all"}, "no part"),
        ({"__class__": [1]}, "has no such tensor"),
        ({"noise.0.forward": [1]}, "has no such tensor"),
    ],
)
def test_shapes_of_a_stranger_are_checked(shapes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match="shapes: ") as error:
        Pruned(nets.DnCNN(depth=3, width=12), shapes)
    assert says in str(error.value)


def test_what_cannot_be_pruned_is_told() -> None:
    image = torch.rand(1, 1, 8, 8)
    with pytest.raises(InputError, match="Sequential cannot be pruned, as no layer of it can lose channels alone"):
        pruned(nn.Sequential(nn.Conv2d(1, 1, 3)), image, 0.5)
    with pytest.raises(InputError, match=r"keep: at least 0.\d+ of the multiply-adds of DnCNN stay"):
        pruned(nets.DnCNN(depth=3, width=12), image, 1e-4)


# The action


def classifiers() -> list[str]:
    """The nets that recognise, as their files of configuration say."""
    from recon.build import find_class

    targets = {
        name: yaml.safe_load((ROOT / "conf/model/net" / f"{name}.yaml").read_text()) for name in choices("model/net")
    }
    return [
        name
        for name, node in targets.items()
        if "logits (B,K)" in (find_class(node["_target_"], "model.net").__doc__ or "")
    ]


@pytest.fixture(scope="module")
def runs(compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    words = {
        "digits": ("model=classifier", "trainer.max_epochs=4"),
        "denoiser": ("model=restoration", "model/net=dncnn", "model.net.depth=4", "model.net.width=12",
                     "degradation=noise", "trainer.max_steps=30", "model.ema=0.9"),
        "gan": ("model=gan", "trainer.max_steps=1"),
    }  # fmt: skip
    for name, overrides in words.items():
        config = compose(*overrides, "logger=none", "accelerator=cpu", "trainer.enable_progress_bar=false")
        chosen = {"model": words[name][0].partition("=")[2]}
        chosen["model/net"] = {"classifier": "cnn", "restoration": "dncnn", "gan": "dcgan"}[chosen["model"]]
        train(config, folder / name, {"choices": chosen, "overrides": []})
    return folder


def results(folder: Path) -> dict[str, float]:
    return {name: value for name, value in json.loads((folder / "metrics.json").read_text()).items() if "test/" in name}


def test_a_pruned_run_is_used_like_any_other(runs: Path, typed: Typed) -> None:
    quick = ("accelerator=cpu", "logger=none", "trainer.enable_progress_bar=false")
    words = (
        "action=shrink",
        f"run={runs / 'digits'}",
        "keep=0.3",
        "trainer.max_epochs=3",
        "hydra.run.dir=small",
        *quick,
    )
    status, output, errors = typed(*words)
    assert status == 0, errors
    assert "weights stay, and are trained on" in output
    config = yaml.safe_load(Path("small/config.yaml").read_text())
    assert config["trainer"]["max_epochs"] == 3
    assert typed("action=evaluate", "run=small", "hydra.run.dir=again", *quick)[0] == 0
    assert results(Path("small")) == results(Path("again"))
    before = results(runs / "digits")["test/accuracy"]
    assert results(Path("small"))["test/accuracy"] > before - 0.05
    rows = {(row["net"], row["form"]): row for row in costs_of("small")}
    assert {("original", "torch"), ("shrunk", "torch")} <= rows.keys()
    assert float(rows["original", "torch"]["quality"]) == before
    share = {name: float(rows["shrunk", "torch"][name]) / float(rows["original", "torch"][name])
             for name in ("multiply_adds", "bytes", "parameters")}  # fmt: skip
    assert 0.15 < share["multiply_adds"] <= 0.3
    assert share["bytes"] < 0.5
    assert share["parameters"] < 0.5
    assert all(float(row[f"ms_{count}"]) > 0 for row in rows.values() for count in (1, 64))
    model = recon.load("small")
    assert model(torch.rand(2, 1, 8, 8)).shape == (2, 10)
    status, output, errors = typed("action=export", "run=small", "output=out", "name=mine")
    assert status == 0, errors
    from recon.restore.weights import load_weights

    again = load_weights("out/mine.safetensors").net
    assert sum(weight.numel() for weight in again.parameters()) == sum(w.numel() for w in model.module.net.parameters())
    assert "This CNN of" in Path("out/mine.md").read_text()
    # Once more, from the pruned one.
    assert typed("action=shrink", "run=small", "keep=0.5", "hydra.run.dir=tiny", *QUICK)[0] == 0
    node = yaml.safe_load(Path("tiny/config.yaml").read_text())["model"]["net"]
    assert node["net"]["_target_"] == "recon.nets.cnn.CNN"
    status, output, errors = typed("action=report", f"runs='{runs / 'digits'},small,tiny'")
    assert status == 0, errors
    page = Path(output.partition("report: ")[2].strip()).read_text()
    # The last one was tested on fewer images, and so is another problem, where its original has no rank.
    first, last = re.findall(r"<h3>Smaller and faster</h3>(.*?)</section>", page, re.S)
    for section in (first, last):
        assert section.count('<figure class="time"><figcaption>accuracy against time for 64 images') == 1
        assert len(re.findall("<td data-label=.form. class=.form.>torch</td>", section)) == 2
    ranks = re.findall(r'<tr><th scope="row">(?:<b class="badge c\d">(\d)</b>|–)', first)
    assert set(ranks) == {"1", "2"}
    assert set(re.findall(r'<tr><th scope="row">(<b|–)', last)) == {"<b", "–"}


def test_a_pruned_denoiser_starts_from_its_average_and_restores(runs: Path, typed: Typed) -> None:
    status, _, errors = typed("action=shrink", f"run={runs / 'denoiser'}", "hydra.run.dir=small", *QUICK)
    assert status == 0, errors
    from recon.build import trained

    assert type(trained(Path("small")).net) is nets.DnCNN
    from PIL import Image

    Image.new("L", (40, 30), 128).save("photo.png")
    status, _, errors = typed("action=restore", "run=small", "input=photo.png", "force=true")
    assert status == 0, errors
    assert Path("photo_restored.png").is_file()


def test_an_interrupted_pruning_is_resumed(runs: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("action=shrink", f"run={runs / 'digits'}", "scheduler.pct_start=0.3", "accelerator=cpu", "logger=none",
             "trainer.enable_progress_bar=false")  # fmt: skip
    assert typed(*words, "hydra.run.dir=whole")[0] == 0
    from recon.modules.base import Module

    epoch_end, ended = Module.on_train_epoch_end, []

    def interrupt(module: Module) -> None:
        epoch_end(module)
        ended.append(module.current_epoch)
        if len(ended) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Module, "on_train_epoch_end", interrupt)
        assert typed(*words, "hydra.run.dir=cut")[0] == 130
    status, _, errors = typed("resume=cut")
    assert status == 0, errors
    assert results(Path("cut")) == results(Path("whole"))


def costs_of(folder: str) -> list[dict[str, str]]:
    with open(Path(folder, "shrunk.csv")) as file:
        return list(csv.DictReader(file))


def find_onnx() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="the export extra is not installed")


@pytest.mark.parametrize(("run", "measure", "least"), [("digits", "accuracy", 0.02), ("denoiser", "psnr", 0.3)])
def test_int8_is_tested_and_smaller(run: str, measure: str, least: float, runs: Path, typed: Typed) -> None:
    find_onnx()
    import onnx

    quick = ("accelerator=cpu", "logger=none", "trainer.enable_progress_bar=false")
    words = ("action=shrink", f"run={runs / run}", "method=quantise", "max_loss=2", "hydra.run.dir=int8", *quick)
    status, _, errors = typed(*words)
    assert status == 0, errors
    before, after = results(runs / run), results(Path("int8"))
    assert abs(after[f"test/{measure}"] - before[f"test/{measure}"]) < least
    assert after["test/loss"] != before["test/loss"], "what was tested is the int8 form"
    model = onnx.load("int8/model_int8.onnx")
    stored = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 4}
    assert stored == {onnx.TensorProto.INT8}, "the filters are int8"
    scales = [tensor for tensor in model.graph.initializer if tensor.name.endswith("_scale") and tensor.dims]
    assert max(tensor.dims[0] for tensor in scales) > 4, "by channel"
    rows = costs_of("int8")
    assert [(row["net"], row["form"]) for row in rows] == [
        ("original", "torch"), ("original", "ONNX Runtime fp32"), ("shrunk", "ONNX Runtime int8")]  # fmt: skip
    assert float(rows[2]["bytes"]) == Path("int8/model_int8.onnx").stat().st_size
    share = {"digits": 0.4, "denoiser": 0.95}[run]  # of a net of some thousand weights most of a file is its graph
    assert float(rows[2]["bytes"]) < share * float(rows[1]["bytes"])
    assert [float(row["quality"]) for row in rows] == [before[f"test/{measure}"]] * 2 + [after[f"test/{measure}"]]
    assert json.loads(Path("int8/metrics.json").read_text())["cost/parameters"] > 100


def test_int8_that_loses_too_much_is_not_written(runs: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    find_onnx()
    from recon.shrink import quantise

    quality, calls = quantise._quality, []

    def worse(*arguments: Any) -> tuple[float, int]:
        calls.append(1)
        value, count = quality(*arguments)
        return value - 0.05 * (len(calls) > 1), count

    monkeypatch.setattr(quantise, "_quality", worse)
    said = typed.refused("action=shrink", f"run={runs / 'digits'}", "method=quantise", "max_loss=4", *QUICK)
    assert re.search(
        r"max_loss: int8 loses \d\.\d\d percentage points of accuracy on \d+ validation images, more than 4", said
    )
    assert not list(Path().rglob("*.onnx"))
    assert not list(Path("outputs").glob("*/*"))


def test_soft_targets_are_the_divergence_of_softened_scores() -> None:
    from scipy.special import rel_entr, softmax

    scores, taught = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0)).unbind()
    expected = 9 * rel_entr(softmax(taught.numpy() / 3, 1), softmax(scores.numpy() / 3, 1)).sum(1)
    torch.testing.assert_close(soft_targets(scores, taught, 3.0), torch.from_numpy(expected), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("run", ["digits", "denoiser"])
def test_a_teacher_is_followed(run: str, runs: Path, compose: Compose) -> None:
    """With the whole loss the distance to the teacher, a net that is the teacher has nothing to learn."""
    from recon import build
    from recon.pair import Pair

    words = {"digits": ("model=classifier",), "denoiser": ("model=restoration", "model/net=dncnn", "degradation=noise",
             "model.net.depth=4", "model.net.width=12")}[run]  # fmt: skip
    clean = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    pair = Pair.of(clean + 0.1, clean, label=torch.arange(6))
    losses = {}
    for share in (0.0, 1.0):
        config = compose(*words, f"model.teacher={runs / run}", f"model.teacher_share={share}", "logger=none")
        task = build.task(config)
        module = build.module(config, task, build.degradation(config, task))
        module.net.load_state_dict(build.trained(runs / run).active_net.state_dict())
        module.train()
        for layer in module.net.modules():  # as the teacher: no dropout, the same statistics
            layer.eval()
        losses[share] = module.step(pair).loss
    assert losses[0.0].mean() > 1e-3
    torch.testing.assert_close(losses[1.0], torch.zeros(6), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("model=restoration", "model.teacher={digits}"), "it recognises images, and this model restores images"),
        (("model=classifier", "model.teacher={denoiser}"), "it restores images, and this model recognises images"),
        (("model=classifier", "task=mnist", "model.teacher={digits}"), "and these are images of 28×28"),
        (("model=gan", "model.teacher={gan}"), "model=gan learns from none; choose model=classifier|restoration"),
        (("model=classifier", "model.teacher=nowhere"), "model.teacher"),
        (("model=classifier", "model.teacher_share=2"), "model.teacher_share: 2 is out of range"),
    ],
)
def test_a_teacher_that_cannot_teach_is_told(words: tuple[str, ...], says: str, runs: Path, typed: Typed) -> None:
    places = {name: runs / name for name in ("digits", "denoiser", "gan")}
    assert says in typed.refused(*(word.format(**places) for word in words), *QUICK)


@pytest.mark.parametrize("net", [slow_if(net in ("resnet18", "speednet"), net) for net in classifiers()])
def test_every_method_shrinks_every_classifier(net: str, compose: Compose, typed: Typed) -> None:
    narrow = ["model.net.width=8"] if net == "resnet18" else []
    words = ("model=classifier", f"model/net={net}", *narrow, *QUICK)
    assert typed(*words, "hydra.run.dir=whole")[0] == 0
    status, _, errors = typed("action=shrink", "run=whole", "keep=0.4", "hydra.run.dir=pruned", *QUICK)
    assert status == 0, errors
    assert 0 <= results(Path("pruned"))["test/accuracy"] <= 1
    find_onnx()
    words = ("action=shrink", "run=whole", "method=quantise", "max_loss=100", "hydra.run.dir=int8", *QUICK)
    status, _, errors = typed(*words)
    assert status == 0, errors
    assert 0 <= results(Path("int8"))["test/accuracy"] <= 1
    status, output, errors = typed(
        "action=shrink", "run=whole", "method=distil", "model/net=lenet", "hydra.run.dir=taught", *QUICK
    )
    assert status == 0, errors
    assert "weights, taught by" in output
    # A taught model does without its teacher.
    Path("whole").rename("gone")
    assert typed("action=evaluate", "run=taught", "hydra.run.dir=again", *QUICK)[0] == 0
    assert results(Path("taught")) == results(Path("again"))


@pytest.mark.parametrize(
    ("run", "words", "says"),
    [
        ("digits", ("method=melt",), "method: 'melt' does not exist; choose prune|quantise|distil"),
        ("digits", ("keep=0",), "keep: 0 is no share of the multiply-adds; give a number above 0, at most 1"),
        ("digits", ("keep=1.5",), "keep: 1.5 is no share"),
        ("digits", ("keep=1e-6",), "keep: at least 0.0"),
        ("digits", ("model.net.hidden=8",), "model.net.hidden: method=prune keeps the run's own net"),
        ("digits", ("optimizer=sgd",), "optimizer: a shrunk model is trained by the recipe of the run"),
        ("digits", ("method=distil",), "model/net: it is the run's own; add the smaller net that is to be taught"),
        ("gan", (), "which neither recognises nor restores by one pass of a net; choose a run of model=classifier"),
    ],
)
def test_bad_input_gets_one_sentence(run: str, words: tuple[str, ...], says: str, runs: Path, typed: Typed) -> None:
    assert says in typed.refused("action=shrink", f"run={runs / run}", *QUICK, *words)
    assert not list(Path("outputs").glob("*/*"))


def test_without_torch_pruning_it_says_how_to_get_it(runs: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    said = typed.refused("action=shrink", f"run={runs / 'digits'}", *QUICK)
    assert said.endswith(
        "method: pruning needs the package torch-pruning; install it by pip install 'recon-images[shrink]'"
    )
