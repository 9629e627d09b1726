"""What helps to train a classifier: mixed images, losses for uneven classes, sharpness-aware steps; laws and truths."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Compose
from lightning.pytorch import Trainer
from scipy import stats
from sklearn.utils.class_weight import compute_class_weight
from test_modules import QUIET, built
from torch import nn
from torch.nn import functional as F

from recon import keyed, losses
from recon.data.mix import Mix
from recon.data.store import ImageStore
from recon.data.task import balanced
from recon.errors import InputError
from recon.modules.classification import ClassificationModule
from recon.modules.sharpness import Sharpness, statistics_kept


def keys(count: int, seed: int = 0) -> torch.Tensor:
    return keyed.keys(seed, "test", 0, torch.arange(count))


def drawn(count: int = 64, k: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(count, k, generator=generator, dtype=torch.float64) * 3
    return scores, torch.randint(k, (count,), generator=generator), torch.rand(k, generator=generator).double() + 0.5


# Losses -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_with_plain_labels_is_torchs(smoothing: float) -> None:
    scores, label, weights = drawn()
    found = losses.cross_entropy(scores, F.one_hot(label, 5).double(), weights, smoothing)
    expected = F.cross_entropy(scores, label, weights, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(found, expected)
    # The focal loss of an exponent near 0 is the same.
    near = losses.cross_entropy(scores, F.one_hot(label, 5).double(), weights, smoothing, focus=1e-9)
    torch.testing.assert_close(near, expected)


@pytest.mark.parametrize("focus", [0.5, 2.0, 5.0])
def test_the_focal_loss_is_its_formula(focus: float) -> None:
    """Lin et al. 2017, equation 5: -alpha_t (1 - p_t)^gamma log p_t."""
    scores, label, weights = drawn()
    share = scores.softmax(1).gather(1, label[:, None])[:, 0]
    expected = -weights[label] * (1 - share) ** focus * share.log()
    torch.testing.assert_close(
        losses.cross_entropy(scores, F.one_hot(label, 5).double(), weights, focus=focus), expected
    )


def test_the_focal_loss_of_a_sure_image_has_a_gradient() -> None:
    scores = torch.tensor([[200.0, 0.0]], requires_grad=True)
    losses.cross_entropy(scores, torch.tensor([[1.0, 0.0]]), focus=0.5).sum().backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


# Mixed images -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_follow_the_beta_distribution(alpha: float) -> None:
    found, places = keyed.beta(keys(20_000), alpha).numpy(), np.linspace(0.01, 0.99, 50)
    expected = stats.beta(alpha, alpha).cdf(places)
    error = np.abs((found[:, None] <= places).mean(0) - expected)
    assert (error < 4 * np.sqrt(expected * (1 - expected) / 20_000)).all()


def test_a_share_of_one_is_the_identity() -> None:
    images, targets = torch.rand(6, 3, 8, 8), F.one_hot(torch.arange(6), 6).float()
    found, labels = Mix()(images, targets, keys(6))
    assert found is images
    assert labels is targets
    # With a tiny alpha every share is 0 or 1: each image is itself or its neighbour, label and all.
    found, labels = Mix(mixup=1e-4)(images, targets, keys(6))
    kept = labels.diagonal() == 1
    assert 0 < kept.sum() < 6
    assert torch.equal(found, torch.where(kept.view(-1, 1, 1, 1), images, images.roll(1, 0)))
    assert torch.equal(labels, torch.where(kept[:, None], targets, targets.roll(1, 0)))


def test_mixup_blends_images_as_it_blends_labels() -> None:
    images, targets = torch.rand(40, 2, 6, 7), F.one_hot(torch.arange(40), 40).float()
    found, labels = Mix(mixup=0.7)(images, targets, keys(40))
    share = keyed.beta(keyed.fold(keys(40), "mixup"), 0.7)
    torch.testing.assert_close(labels.diagonal(), share)
    torch.testing.assert_close(labels.sum(1), torch.ones(40))
    by = share.view(-1, 1, 1, 1)
    torch.testing.assert_close(found, by * images + (1 - by) * images.roll(1, 0))


def test_cutmix_pastes_a_rectangle_whose_area_is_the_labels_share() -> None:
    """By NumPy, one image at a time; and on average the area is less than asked for only by what the border cuts."""
    height, width = 12, 20
    images, targets = torch.rand(300, 1, height, width), F.one_hot(torch.arange(300), 300).float()
    found, labels = Mix(cutmix=1.0)(images, targets, keys(300))
    kept = keyed.beta(keyed.fold(keys(300), "area"), 1.0).numpy()
    middle = keyed.uniform(keyed.fold(keys(300), "place"), (2,)).numpy()
    for number in range(300):
        side = math.sqrt(1 - kept[number])
        rows = np.abs((np.arange(height) + 0.5) / height - middle[number, 0]) < side / 2
        columns = np.abs((np.arange(width) + 0.5) / width - middle[number, 1]) < side / 2
        inside = np.outer(rows, columns)
        expected = np.where(inside, images[number - 1, 0].numpy(), images[number, 0].numpy())
        np.testing.assert_array_equal(found[number, 0].numpy(), expected)
        assert float(labels[number, number]) == pytest.approx(1 - inside.mean(), abs=1e-6)
        assert float(labels[number, number - 1]) == pytest.approx(inside.mean(), abs=1e-6)
    assert 0.5 < float(labels.diagonal().mean()) < 0.75


def test_the_draws_of_a_sample_do_not_depend_on_its_batch() -> None:
    """All images are equal, so that what is mixed in is the same in every batch; only the draws differ."""
    mix = Mix(mixup=0.4, cutmix=1.0)
    label = torch.zeros(24, 2)
    label[:, 0] = torch.arange(24).float() % 2  # the neighbour's differs wherever the batches begin with an even number
    label[:, 1] = 1 - label[:, 0]
    images = label[:, :1, None, None].expand(-1, 1, 8, 8).clone()
    whole, labels = mix(images, label, keys(24))
    for size in (2, 6, 12):
        parts = [mix(*part) for part in zip(images.split(size), label.split(size), keys(24).split(size), strict=True)]
        assert torch.equal(torch.cat([part[0] for part in parts]), whole)
        assert torch.equal(torch.cat([part[1] for part in parts]), labels)
    blended = ((whole > 0) & (whole < 1)).flatten(1).any(1)
    assert 4 < int(blended.sum()) < 20  # by mixup; by CutMix the others


# Uneven classes -----------------------------------------------------------------------------------------------------


def test_balanced_images_are_repeated_until_classes_are_even() -> None:
    label = torch.tensor([0] * 50 + [1] * 7 + [2] * 20)
    index = balanced(label, torch.arange(77))
    assert torch.bincount(label[index]).tolist() == [50, 50, 50]
    counts = torch.bincount(index)
    assert counts.min() >= 1
    for each in (0, 1, 2):
        assert counts[label == each].max() - counts[label == each].min() <= 1
    with pytest.raises(InputError, match=r"^task\.balanced: the images of this task have no classes"):
        balanced(torch.tensor([0, -1]), torch.arange(2))


def uneven(compose: Compose, *words: str) -> tuple[ClassificationModule, Any]:
    """A classifier and digits of which some classes are rare."""
    module, data = built(compose("model=classifier", "model/net=lenet", "task=digits", "task.batch_size=32", *words))
    splits = data.load()
    train: ImageStore = splits.train
    kept = (train.label > 2) | (torch.arange(len(train)) % 5 == 0)
    data.splits = splits._replace(train=train.subset(kept.nonzero().squeeze(1)))
    assert isinstance(module, ClassificationModule)
    return module, data


def test_balanced_weights_are_scikit_learns(compose: Compose) -> None:
    module, data = uneven(compose, "model.class_weights=balanced")
    Trainer(**QUIET, max_steps=1, limit_val_batches=0).fit(module, datamodule=data)
    label = data.load().train.label.numpy()
    expected = compute_class_weight("balanced", classes=np.arange(10), y=label)
    np.testing.assert_allclose(module.class_weights, expected, rtol=1e-6)


def test_balanced_training_images_of_a_task(compose: Compose) -> None:
    _, data = built(compose("model=classifier", "task=digits", "task.balanced=true"))
    counts = torch.bincount(data.load().train.label)
    assert (counts == counts[0]).all()
    assert len(data.load().validation) == 180


# Sharpness ----------------------------------------------------------------------------------------------------------


def test_a_sharpness_aware_step_by_hand() -> None:
    """Of a quadratic w'Aw/2 the gradient at w is Aw: the step is by A(w + rho Aw/|Aw|)."""
    matrix, rho, rate = torch.tensor([[3.0, 0.5], [0.5, 1.0]]), 0.3, 0.1
    net = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, -2.0]]))
    before = net.weight.detach().clone()

    def loss() -> torch.Tensor:
        return 0.5 * (net.weight @ matrix @ net.weight.T).sum()

    optimizer, sharpness = torch.optim.SGD(net.parameters(), rate), Sharpness(rho)
    sharpness.climb(loss(), net)
    loss().backward()
    sharpness.descend()
    assert torch.equal(net.weight, before)
    optimizer.step()
    gradient = before[0] @ matrix
    worst = before[0] + rho * gradient / gradient.norm()
    torch.testing.assert_close(net.weight[0].detach(), before[0] - rate * worst @ matrix)


def trained(compose: Compose, *words: str, steps: int = 3, **trainer: Any) -> tuple[torch.Tensor, ClassificationModule]:
    config = compose("model=classifier", "task=digits", "task.batch_size=16", *words)
    module, data = built(config)
    Trainer(**{**QUIET, "max_steps": steps, "limit_val_batches": 0, **trainer}).fit(module, datamodule=data)
    return torch.cat([weight.detach().flatten() for weight in module.net.parameters()]), module


def test_the_radius_of_a_step_vanishes_into_the_base_optimiser(compose: Compose) -> None:
    words = ("model.net.dropout=0", "optimizer=sgd", "scheduler=constant", "optimizer.fused=false")
    plain, first = trained(compose, *words)
    tiny, second = trained(compose, *words, "model.sam=1e-6")
    wide, _ = trained(compose, *words, "model.sam=0.5")
    assert float((tiny - plain).norm()) < 1e-4 * float((wide - plain).norm())
    # What is counted by batch norm is the images at the weights themselves, once.
    for one, other in zip(first.net.buffers(), second.net.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_batch_norm_counts_nothing_on_the_way_up() -> None:
    norm = nn.BatchNorm2d(2)
    with statistics_kept(norm):
        norm(torch.rand(4, 2, 3, 3) + 5)
    assert norm.running_mean is not None
    assert torch.equal(norm.running_mean, torch.zeros(2))
    norm(torch.rand(4, 2, 3, 3) + 5)
    assert (norm.running_mean > 0.5).all()


def test_sharpness_works_with_accumulation_clipping_and_bfloat16(compose: Compose) -> None:
    more = {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1, "precision": "bf16-mixed"}
    found, _ = trained(compose, "model.sam=0.1", **more)
    plain, _ = trained(compose, **more)
    assert found.isfinite().all()
    assert not torch.equal(found, plain)


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_everything_together_at_other_precisions(precision: str, compose: Compose) -> None:
    weights = "[1,2,1,2,1,2,1,2,1,2]"
    words = ("mixup=0.2", "cutmix=1", "focal=2", "label_smoothing=0.1", "sam=0.05", f"class_weights={weights}")
    found, _ = trained(compose, "model/net=lenet", *(f"model.{word}" for word in words), precision=precision)
    assert found.isfinite().all()


# Mirror images in evaluation ----------------------------------------------------------------------------------------


def test_scores_are_the_mean_of_those_of_an_image_and_its_mirror_image(compose: Compose) -> None:
    module, data = built(compose("model=classifier", "task=digits", "model.test_flip=true"))
    pair = next(iter(data.val_dataloader()))
    module.eval()
    scores = module.predict(pair)
    torch.testing.assert_close(scores, (module(pair.degraded) + module(pair.degraded.flip(3))) / 2)
    torch.testing.assert_close(scores, module.predict(pair._replace(degraded=pair.degraded.flip(3))))
    module.train()
    module.net.eval()
    assert torch.equal(module.predict(pair), module(pair.degraded))


# Mistakes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word",
    [
        "mixup=-1", "mixup=x", "cutmix=.nan", "focal=-2", "focal=null", "sam=-0.1", "sam=big",
        "class_weights=even", "class_weights=[1,2]", "class_weights=[1,1,1,1,1,1,1,1,1,-1]", "class_weights=3",
        "class_weights=[0,0,0,0,0,0,0,0,0,0]",
    ],
)  # fmt: skip
def test_a_value_that_makes_no_sense_is_told_by_its_key(word: str, compose: Compose) -> None:
    with pytest.raises(InputError, match=rf"^model\.{word.partition('=')[0]}: [^\n]+$"):
        built(compose("model=classifier", "task=digits", f"model.{word}"))
