"""Which nets fit which modules, images, numbers and machines: each works or is refused in a sentence."""

import copy
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import ROOT, Compose, Typed, choices, slow_if, trained_models
from lightning.pytorch import Trainer
from PIL import Image
from test_modules import QUIET, built

from recon import build
from recon.actions.evaluate import evaluate
from recon.actions.train import train
from recon.errors import InputError
from recon.training import trial

FITTING = {
    "autoencoder": {"conv_autoencoder", "spatial_autoencoder", "dense_autoencoder"},
    "classifier": {"cnn", "lenet", "resnet18", "speednet"},
    "deep_image_prior": {"cvanet", "dncnn", "dru", "edsr", "ffdnet", "gated_unet", "nafnet", "unet"},
    "diffusion": {"time_unet"},
    "flow": {"time_unet"},
    "gan": {"dcgan", "resgan"},
    "inpainting": {"cvanet", "dncnn", "dru", "edsr", "ffdnet", "gated_unet", "nafnet", "unet"},
    "restoration": {
        "conv_autoencoder",
        "spatial_autoencoder",
        "cvanet",
        "dense_autoencoder",
        "dncnn",
        "dru",
        "edsr",
        "ffdnet",
        "gated_unet",
        "nafnet",
        "unet",
        "vae",
    },
    "self_supervised": {
        "cvanet",
        "dncnn",
        "dru",
        "edsr",
        "ffdnet",
        "gated_unet",
        "nafnet",
        "spatial_autoencoder",
        "unet",
    },
    "vae": {"vae"},
}


def refusal(config: dict[str, Any]) -> str:
    with pytest.raises(InputError) as caught:
        built(config)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def with_net(compose: Compose, model: str, net: str) -> dict[str, Any]:
    """The configuration of a model with a net, without asking Hydra for each pair."""
    config = compose(f"model={model}", "task=digits", "task.batch_size=8")
    config["model"]["net"] = yaml.safe_load((ROOT / "conf" / "model" / "net" / f"{net}.yaml").read_text())
    return config


@pytest.mark.parametrize("model", trained_models())
def test_every_net_trains_with_a_model_or_is_refused_with_those_that_do(
    model: str, compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitting, known = trial._fitting, dict[type, list[str]]()

    def once(kind: Any, facts: Any) -> list[str]:
        """Work out which nets fit once, for all that do not."""
        if kind not in known:
            known[kind] = fitting(kind, facts)
        return known[kind]

    monkeypatch.setattr(trial, "_fitting", once)
    for net in choices("model/net"):
        config = with_net(compose, model, net)
        if net in FITTING[model]:
            if model == "deep_image_prior":
                config["model"]["steps"], config["task"]["batch_size"] = 1, 1
            module, data = built(config)
            trainer = Trainer(**QUIET, max_epochs=1, max_steps=1, limit_val_batches=1, limit_test_batches=1)
            (trainer.fit if module.trains else trainer.test)(module, datamodule=data)
            continue
        said = refusal(config)
        found = re.fullmatch(r"model\.net: (\w+) .*, and so does not fit (\w+); choose model/net=(.*)", said)
        assert found, said
        assert found[1] == config["model"]["net"]["_target_"].rpartition(".")[2]
        assert found[2] == config["model"]["_target_"].rpartition(".")[2]
        assert set(found[3].split("|")) == FITTING[model]


@pytest.mark.parametrize(
    ("net", "said"),
    [
        ("unet", "model.net: 'unet' is no net; write model/net=unet"),
        ("Unet2", "model.net: 'Unet2' is no net; write model/net=unet"),
        (7, "model.net: 7 is no net; write model/net=cnn|"),
        ({"widths": [1]}, "model.net: {'widths': [1]} is no net; write model/net="),
    ],
)
def test_a_name_in_place_of_a_net_says_how_to_choose_it(net: Any, said: str, compose: Compose) -> None:
    config = compose("model=restoration")
    config["model"]["net"] = net
    assert refusal(config).startswith(said)


def test_the_command_line_says_so_too(typed: Typed) -> None:
    assert typed.refused("model.net=unet") == "error: model.net: 'unet' is no net; write model/net=unet"
    assert "choose model/net=vae" in typed.refused("model=vae", "model/net=unet")
    assert not list(typed.tmp_path.rglob("*.*"))


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setenv("RECON_TRUST", "own_nets")


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("model", "net", "said"),
    [
        ("restoration", "Broken", r"model\.net: Broken does not work on images of 1×8×8 \(.+\); choose another"),
        ("gan", "Broken", r"model\.net: Broken has no .*; choose model/net=dcgan"),
        ("restoration", "Halves", r"model\.net: Halves gives an image of 1×8×4, not an image of 1×8×8, .*"),
        (
            "classifier",
            "Halves",
            r"model\.net: Halves gives an image of .*; choose model/net=cnn\|lenet\|r.*\|speednet",
        ),
        ("vae", "NotOnMeta", r"model\.net: NotOnMeta has no decode and no encode.*"),
        ("classifier", "NotOnMeta", r"model\.net: NotOnMeta does not work .*"),
        ("restoration", "NotOnMeta", ""),
    ],
)
def test_a_net_of_ones_own(model: str, net: str, said: str, compose: Compose) -> None:
    config = compose(f"model={model}", "task=digits")
    config["model"]["net"] = {"_target_": f"own_nets.{net}"}
    if said:
        assert re.match(said, refusal(config))
    else:
        built(config)


# Numbers and lists of numbers of the configuration -----------------------------------------------------------------


def numbers(node: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each number or list of numbers below a node, with values to try in its place."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from numbers(value, (*path, key))
        elif isinstance(value, int | float | list) and not isinstance(value, bool):
            yield from (((*path, key), other) for other in (LISTS if isinstance(value, list) else NUMBERS))


NUMBERS = (-1, 0, math.nan, math.inf, 10**9, 1e9, True, "x", None)
LISTS = ([], [-1], [0], [10**9], [2.5], 5, None)


@pytest.mark.parametrize(
    ("model", "net"),
    [slow_if(net in ("dcgan", "time_unet"), model, net) for model in FITTING for net in sorted(FITTING[model])],
)
def test_every_number_works_or_is_refused_by_its_name(model: str, net: str, compose: Compose) -> None:
    config = with_net(compose, model, net)
    if model in ("inpainting", "vae"):
        config["model"]["adversarial"] = 0.1
    worked, task = 0, build.task(config)
    for path, value in numbers(config["model"]):
        # The module's own numbers are those of any of its nets.
        if path[0] != "net" and net != min(FITTING[model]):
            continue
        changed = copy.deepcopy(config)
        node = changed["model"]
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value
        started, said = time.process_time(), None
        try:
            build.module(changed, task, build.degradation(changed, task))
        except InputError as error:
            said = str(error)
        assert time.process_time() - started < 2, (path, value)
        if said is None:
            worked += 1
            assert value not in (-1, None, True, "x"), path
        else:
            assert re.match(rf"model\.{re.escape('.'.join(path))}: [^\n]+$", said), (path, value, said)
    assert worked or net != min(FITTING[model])


@pytest.mark.parametrize(
    ("net", "numbers"),
    [("edsr", {"width": 10**6}), ("resnet18", {"width": 10**5}), ("edsr", {"width": 10**4, "blocks": 100})],
)
def test_a_net_beyond_the_memory_is_refused_before_it_is_built(
    net: str, numbers: dict[str, int], compose: Compose
) -> None:
    config = with_net(compose, "classifier" if net == "resnet18" else "restoration", net)
    config["model"]["net"] |= numbers
    wanted = r"model\.net: to train \S+ weights takes [\d,]+ GB, and this machine has [\d,]+; make the net narrower.*"
    assert re.fullmatch(wanted, refusal(config))


def test_the_trial_draws_nothing(compose: Compose) -> None:
    """The weights are those of the seed, however often nets are built to try them out."""
    config = compose("model=restoration", "task=digits")
    task = build.task(config)
    torch.manual_seed(3)
    module = build.module(config, task, build.degradation(config, task))
    torch.manual_seed(3)
    expected = type(module.net)()
    for found, wanted in zip(module.net.parameters(), expected.parameters(), strict=True):
        assert torch.equal(found, wanted)


# Batch norm and small batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "net", "more", "least"),
    [
        ("gan", "dcgan", {"net": {"norm": "batch"}}, 2),
        ("gan", "dcgan", {"net": {"norm": "none"}}, 1),
        ("classifier", "resnet18", {"net": {"width": 4}}, 2),
        ("classifier", "lenet", {}, 1),
        ("restoration", "unet", {"net": {"widths": [4, 4, 4]}}, 1),  # its smallest features are of 2×2 pixels
        ("inpainting", "unet", {"adversarial": 0.1, "discriminator": {"norm": "batch", "widths": [4, 4, 4]}}, 2),
        ("vae", "vae", {"adversarial": 0.1, "discriminator": {"norm": "batch", "widths": [4, 4, 4]}}, 2),
    ],
)
def test_batch_norm_asks_for_two_images(
    model: str, net: str, more: dict[str, Any], least: int, compose: Compose, tmp_path: Path
) -> None:
    config = with_net(compose, model, net)
    config["task"]["batch_size"], config["logger"]["_target_"] = 1, None
    for key, value in more.items():
        config["model"][key] = {**config["model"][key], **value} if isinstance(value, dict) else value
    if least == 2:
        with pytest.raises(InputError, match=r"^task\.batch_size: batch norm in \w+ needs 2 images .*; give 2 or more"):
            build.run(config, tmp_path)
        assert not list(tmp_path.iterdir())
        return
    module, data = built(config)
    Trainer(**QUIET, max_epochs=1, max_steps=1, limit_val_batches=1).fit(module, datamodule=data)
    assert module.least_batch == 1


@pytest.mark.parametrize("model", ["inpainting", "vae"])
@pytest.mark.parametrize(
    "discriminator", [{"widths": [4] * 4}, {"num_classes": 3}, {"_target_": "recon.nets.unet.UNet"}], ids=str
)
def test_a_discriminator_that_does_not_work_is_blamed_itself(
    model: str, discriminator: dict[str, Any], compose: Compose
) -> None:
    config = with_net(compose, model, min(FITTING[model]))
    node = discriminator if "_target_" in discriminator else {**config["model"]["discriminator"], **discriminator}
    config["model"] |= {"adversarial": 0.1, "discriminator": node}
    assert refusal(config).startswith("model.discriminator: it does not work on these images and labels (")


def test_one_training_image_is_refused_where_batch_norm_needs_two(
    compose: Compose, image_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "few").mkdir()
    for index, path in enumerate(sorted(image_folder.glob("*/*.png"))[:3]):
        (tmp_path / "few" / f"{index}.png").write_bytes(path.read_bytes())
    config = compose(
        "model=gan", "task=folder", f"task.path={tmp_path}/few", "logger=none", "accelerator=cpu",
        "trainer.enable_progress_bar=false", "model.net.discriminator_widths=[4,4,4,4]",
    )  # fmt: skip
    with pytest.raises(InputError, match=r"^task: batch norm in DCGAN needs 2 images .* there are 1 to train on; add"):
        train(config, tmp_path / "run", {})
    assert not (tmp_path / "run").exists()


# Weights and images that do not fit --------------------------------------------------------------------------------

SHORT = (
    "trainer.max_steps=1", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1", "logger=none",
    "trainer.enable_progress_bar=false", "accelerator=cpu", "task.batch_size=4",
)  # fmt: skip


def test_weights_that_do_not_fit_say_how_the_images_differ(
    compose: Compose, image_folder: Path, tmp_path: Path
) -> None:
    folder, colour = ["task=folder", f"task.path={image_folder}"], ["task=folder", f"task.path={tmp_path}/colour"]
    (tmp_path / "colour").mkdir()
    for index, path in enumerate(sorted(image_folder.glob("*/*.png"))[:30]):
        grey = Image.open(path)
        Image.merge("RGB", (grey, grey.rotate(90), grey)).save(tmp_path / "colour" / f"{index}.png")
    for model, grey, other, said in (
        ("restoration", ["task=digits"], colour, "trained on grey images, and these are colour images"),
        ("autoencoder", ["task=digits"], folder, "trained on images of 8×8, and these are images of 16×16"),
        ("classifier", ["model/net=resnet18", "model.net.width=4", "task=digits"],
         ["model/net=resnet18", "model.net.width=4", *folder],
         "trained on images of 10 classes, and these are images of 2 classes"),
    ):  # fmt: skip
        run = tmp_path / model
        train(compose(f"model={model}", *grey, *SHORT), run, {})
        config = compose(f"model={model}", *other, *SHORT, "action=evaluate", f"run={run}")
        with pytest.raises(InputError, match=f"^run: .*{said}"):
            evaluate(config, tmp_path / "evaluation", {})
        assert not (tmp_path / "evaluation").exists()


def test_a_judge_is_blamed_by_its_key(compose: Compose, tmp_path: Path) -> None:
    train(compose("model=restoration", "task=digits", *SHORT), tmp_path / "no_classifier", {})
    (tmp_path / "empty").mkdir()
    for judge in ("not_there", "no_classifier", "empty"):
        config = compose("model=gan", "task=digits")
        config["model"]["judge"] = str(tmp_path / judge)
        assert refusal(config).startswith("model.judge: ")
