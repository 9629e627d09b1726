"""`action=explain`: attributions against closed forms, their checks, and every method on every net."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Compose, Typed
from damage import images, keys
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor, nn

from recon import build
from recon.actions.train import train
from recon.explain import attribution, checks, looks
from recon.explain.explained import METHODS, Explainer, words
from recon.pair import Pair

CLEAN = images((1, 8, 8), 6)
WEIGHT = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0))


def linear(image: Tensor) -> Tensor:
    return (image * WEIGHT).sum((1, 2, 3))


# Attributions


def test_the_gradient_of_a_linear_score_is_its_weights() -> None:
    assert torch.equal(attribution.gradient(linear, CLEAN), WEIGHT.expand_as(CLEAN))
    assert torch.equal(attribution.saliency(linear, CLEAN), WEIGHT.abs().expand(6, -1, -1))
    torch.testing.assert_close(attribution.smoothgrad(linear, CLEAN, keys(6)), WEIGHT.abs().expand(6, -1, -1))


def test_integrated_gradients_of_polynomials_are_exact() -> None:
    """That of a x³ from b is a (x³ - b³), pixel by pixel."""
    baseline = torch.full_like(CLEAN, 0.3)

    def cubic(image: Tensor) -> Tensor:
        return (image**3 * WEIGHT).sum((1, 2, 3))

    map_ = attribution.integrated_gradients(cubic, CLEAN, baseline)
    torch.testing.assert_close(map_, ((CLEAN**3 - baseline**3) * WEIGHT)[:, 0], atol=1e-5, rtol=1e-4)
    assert attribution.completeness(cubic, CLEAN, baseline, map_).max() < 1e-3
    assert attribution.completeness(cubic, CLEAN, baseline, 2 * map_).min() > 0.9


def test_occlusion_finds_the_part_that_counts() -> None:
    clean = images((1, 28, 28), 4) + torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))

    def corner(image: Tensor) -> Tensor:
        return image[:, :, :8, :8].square().mean((1, 2, 3))

    map_ = attribution.occlusion(corner, clean)
    assert (map_[:, 12:] == 0).all()
    assert (map_[:, :, 12:] == 0).all()
    assert (map_[:, :8, :8] != 0).all()


def test_grad_cam_of_a_mean_over_features_is_their_weighted_sum() -> None:
    torch.manual_seed(0)
    layer, last = nn.Conv2d(1, 5, 3, padding=1), nn.Linear(5, 1)
    net = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), last).requires_grad_(False)
    map_ = attribution.grad_cam(lambda x: net(x)[:, 0], CLEAN, layer)
    expected = (layer(CLEAN) * last.weight.view(1, 5, 1, 1) / 64).sum(1).relu()
    torch.testing.assert_close(map_, expected)


def test_maps_are_those_of_captum() -> None:
    """Also of colour, under strides, where features are smaller than the image."""
    captum = pytest.importorskip("captum.attr", reason="captum, in the extra dev, is not installed")
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 8, 3, stride=2)
    body = nn.Sequential(nn.Conv2d(3, 6, 5), nn.Tanh(), layer, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    net = nn.Sequential(body, nn.Linear(32, 4)).eval()
    image, target = images((3, 28, 28), 5), torch.tensor([0, 1, 2, 3, 1])
    baseline = image.mean((2, 3), keepdim=True).expand_as(image).contiguous()

    def score(x: Tensor) -> Tensor:
        return net(x).gather(1, target.unsqueeze(1)).squeeze(1)

    own = {
        "saliency": attribution.saliency(score, image),
        "integrated gradients": attribution.integrated_gradients(score, image, baseline),
        "Grad-CAM": attribution.grad_cam(score, image, layer),
        "occlusion": attribution.occlusion(score, image),
    }
    coarse = captum.LayerGradCam(net, layer).attribute(image, target, relu_attributions=True)
    window = {"sliding_window_shapes": (3, 4, 4), "strides": (3, 2, 2), "baselines": baseline}
    theirs = {
        "saliency": captum.Saliency(net).attribute(image, target).amax(1),
        "integrated gradients": captum.IntegratedGradients(net).attribute(image, baseline, target, n_steps=64).sum(1),
        "Grad-CAM": captum.LayerAttribution.interpolate(coarse, (28, 28), "bilinear")[:, 0],
        "occlusion": captum.Occlusion(net).attribute(image, target=target, **window)[:, 0],
    }
    for name, map_ in own.items():
        assert map_.std() > 0, name
        torch.testing.assert_close(map_, theirs[name].detach().float(), msg=lambda text, name=name: f"{name}: {text}")


# Checks


def test_randomised_weights_are_given_back(compose: Compose) -> None:
    module = classifier(compose, "cnn")
    before = {name: value.clone() for name, value in module.net.state_dict().items()}
    seen = module.predict(Pair.of(CLEAN))
    with checks.randomised(module.net):
        first = module.predict(Pair.of(CLEAN))
        assert not torch.equal(first, seen)
    with checks.randomised(module.net):
        assert torch.equal(module.predict(Pair.of(CLEAN)), first), "always the same ones"
    assert all(torch.equal(value, before[name]) for name, value in module.net.state_dict().items())


def test_likeness_is_spearman_s() -> None:
    first, second = torch.randn(4, 5, 6), torch.randn(4, 5, 6).round()
    expected = [spearmanr(a.abs().flatten(), b.abs().flatten()).statistic for a, b in zip(first, second, strict=True)]
    assert checks.likeness(first, second) == pytest.approx(expected)
    assert checks.likeness(first, -first) == pytest.approx(np.ones(4))
    assert np.isnan(checks.likeness(first, torch.zeros(4, 5, 6))).all()


def test_deleting_what_counts_most_falls_fastest() -> None:
    baseline = torch.full_like(CLEAN, 0.5)
    own = ((CLEAN - baseline) * WEIGHT)[:, 0]
    chance = torch.rand(6, 8, 8, generator=torch.Generator().manual_seed(0))
    deleted, inserted = checks.deletion(linear, CLEAN, own, baseline, keys(6))
    assert deleted.shape == (6, 21)
    for curve, start, end in ((deleted, CLEAN, baseline), (inserted, baseline, CLEAN)):
        np.testing.assert_allclose(curve[:, 0], linear(start), atol=1e-5)
        np.testing.assert_allclose(curve[:, -1], linear(end), atol=1e-5)
    # Of a sum over pixels, no order falls or rises faster than that of the summands.
    by_chance = checks.deletion(linear, CLEAN, chance, baseline, keys(6))
    assert (deleted <= by_chance[0] + 1e-5).all()
    assert (inserted >= by_chance[1] - 1e-5).all()
    assert checks.gain(deleted, by_chance[0]).high < 0
    assert checks.gain(inserted, by_chance[1]).low > 0
    # Equal values are taken in a drawn order, not row by row.
    flat = checks.deletion(linear, CLEAN, torch.zeros(6, 8, 8), baseline, keys(6))[0]
    assert not np.allclose(flat, checks.deletion(linear, CLEAN, torch.zeros(6, 8, 8), baseline, keys(6, 1))[0])


# Nets


def classifier(compose: Compose, net: str):  # type: ignore[no-untyped-def]
    """An untrained classifier of digits, as a trained one is used."""
    narrow = ["model.net.width=8"] if net == "resnet18" else []
    config = compose("model=classifier", f"model/net={net}", *narrow, "task=digits")
    task = build.task(config)
    made = build.module(config, task, build.degradation(config, task))
    if net == "speednet":  # seven batch norms without statistics leave scores of 1e-6
        with torch.no_grad():
            for _ in range(200):
                made(CLEAN)
            made.net.classifier.weight.mul_(10)
    return made.eval().requires_grad_(False)


@pytest.mark.parametrize("net", ["lenet", "cnn", "resnet18", "speednet"])
def test_every_method_explains_every_net(net: str, compose: Compose) -> None:
    explainer = Explainer(classifier(compose, net), Pair.of(CLEAN))
    methods = METHODS if explainer.layer_name else [method for method in METHODS if method != "grad_cam"]
    found = explainer.explain(methods, lambda: None)
    assert [each.method for each in found] == list(methods)
    for each in found:
        assert each.maps.shape == (6, 8, 8)
        assert each.maps.isfinite().all()
        assert {"deletion", "insertion"} <= each.figures.keys()
        assert each.method in words(each)
    assert looks.filters(explainer.module.active_net).ndim == 4
    made, confidence = looks.activation_maximisation(explainer.module)
    assert made.shape == (10, 1, 8, 8)
    assert 0 <= made.min() <= made.max() <= 1
    assert (
        confidence.mean() > explainer.module.predict(Pair.of(torch.full_like(made, 0.5))).softmax(1).diagonal().mean()
    )


def test_what_a_pixel_used_is_the_kernel_around_it(compose: Compose) -> None:
    config = compose("model=restoration", "model/net=dncnn", "task=digits", "degradation=noise")
    task = build.task(config)
    module = build.module(config, task, build.degradation(config, task)).eval().requires_grad_(False)
    module.net = nn.Conv2d(1, 1, 5, padding=2, bias=False)
    maps, at = looks.used_by_a_pixel(module, Pair.of(images((1, 28, 28), 3)))
    assert at.tolist() == [[14, 14]] * 3
    torch.testing.assert_close(maps[0, 12:17, 12:17], module.net.weight[0, 0].abs())
    assert maps[0].count_nonzero() == 25
    assert looks.radius_of(maps, at) <= 2
    assert looks.radius_of(torch.ones(1, 21, 21), torch.tensor([[10, 10]])) == 10
    hole = torch.ones(1, 1, 28, 28)
    hole[..., 3:5, 4] = 0
    assert looks.used_by_a_pixel(module, Pair.of(images((1, 28, 28), 1), mask=hole))[1].tolist() == [[4, 4]]


# The action


def test_sheets_reach_dashboards(runs: Path, typed: Typed) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = ("action=explain", f"run={runs / 'digits'}", "method=filters", "accelerator=cpu", "logger=tensorboard")
    assert typed(*words)[0] == 0
    events = EventAccumulator(str(runs / "digits" / "tensorboard"))
    events.Reload()
    assert events.Tags()["images"] == ["images/explain_filters"]


@pytest.fixture(scope="module")
def runs(compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    words = {
        "digits": ("model=classifier", "trainer.max_epochs=4"),
        "denoiser": ("model=restoration", "model/net=unet", "degradation=noise", "trainer.max_steps=2"),
        "gan": ("model=gan", "trainer.max_steps=1"),
    }
    for name, overrides in words.items():
        config = compose(*overrides, "logger=none", "accelerator=cpu", "trainer.enable_progress_bar=false")
        train(config, folder / name, {"choices": {}, "overrides": []})
    return folder


def test_a_trained_classifier_is_explained_better_than_by_chance(runs: Path, typed: Typed) -> None:
    status, output, errors = typed("action=explain", f"run={runs / 'digits'}", "accelerator=cpu")
    assert status == 0, errors
    with open(runs / "digits" / "explain_all.csv") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    own = rows["integrated_gradients"]
    assert float(own["completeness_error"]) < 0.02
    assert float(own["deletion_high"]) < 0 < float(own["insertion_low"])
    for row in rows.values():
        assert float(row["likeness_randomised"]) < 0.8, "other weights, another map"
    assert "better than chance" in output
    with Image.open(runs / "digits" / "explain_all.png") as picture:
        assert picture.width > 500
        assert len(picture.getcolors(1 << 20) or []) > 100
    assert typed("action=explain", f"run={runs / 'digits'}", "method=filters", "accelerator=cpu")[0] == 0
    assert typed("action=report", f"runs={runs / 'digits'}")[0] == 0
    page = (runs / "digits" / "report.html").read_text()
    assert "Which pixels were used" in page
    assert page.count('class="drawn"') == 2
    assert f"{float(own['deletion']):.3f} (random {float(own['deletion_by_chance']):.3f}" in page
    assert "cannot be read" not in page


@pytest.mark.parametrize(
    ("run", "method"),
    [("digits", "filters"), ("digits", "features"), ("digits", "activation_maximisation"), ("digits", "grad_cam"),
     ("denoiser", "receptive_field"), ("denoiser", "filters"), ("denoiser", "features"), ("gan", "filters")],
)  # fmt: skip
def test_other_sheets(run: str, method: str, runs: Path, typed: Typed) -> None:
    words = ("action=explain", f"run={runs / run}", f"method={method}", "images=2", "checked=4", "output=sheet.v1")
    status, output, errors = typed(*words, "accelerator=cpu")
    if run == "gan":
        assert status in (0, 2), errors
        return
    assert status == 0, errors
    assert "explain: sheet.png" in output or "explain: sheet.v1.png" in output


@pytest.mark.parametrize(
    ("run", "words", "says"),
    [
        ("denoiser", ("method=saliency",), "method: saliency explains the classes of a classifier"),
        ("digits", ("method=receptive_field",), "method: receptive_field is of models that restore"),
        (
            "digits",
            ("method=grad_cam", "layer=what"),
            "layer: there is none 'what' that makes feature maps; choose one of",
        ),
        ("digits", ("method=filters", "layer=what"), "layer: method=filters looks at no layer; leave it out"),
        ("digits", ("task=photos",), "task: model=classifier needs labels and this task has none"),
        ("digits", ("method=guess",), "method: 'guess' does not fit; give all or saliency"),
        ("digits", ("images=9", "checked=8"), "checked: 8 is out of range; give a whole number from 9 to 4096"),
    ],
)
def test_bad_input_gets_one_sentence(run: str, words: tuple[str, ...], says: str, runs: Path, typed: Typed) -> None:
    assert says in typed.refused("action=explain", f"run={runs / run}", "accelerator=cpu", *words)
