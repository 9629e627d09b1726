"""Classification: recognise the degraded image."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recon import keyed, losses, metrics
from recon.console import say
from recon.data.datamodule import DataModule
from recon.data.mix import Mix
from recon.data.store import PairLoader
from recon.errors import InputError
from recon.measures import top_of
from recon.metrics import classes, resampled
from recon.modules.base import Module
from recon.modules.outcome import Artifact, Outcome
from recon.modules.sharpness import Sharpness, statistics_kept
from recon.modules.unfreezing import Unfreezing
from recon.nets.contracts import Classifier
from recon.pair import Pair
from recon.ranges import require_number, require_share, require_whole
from recon.report.inference import wilson
from recon.runs import calibrated, draw, reliability
from recon.training.options import Training

_SHOWN = 1 << 20  # pixels of training images that a net is shown before its training


class ClassificationModule(Module):
    """Tell the class of the degraded image by softmax cross-entropy.

    Args:
        net: (B,C,H,W) -> (B,K) logits. One with a method `fit_to` is given some training images, (N,C,H,W) as they
            are degraded, before the training, also where it is resumed.
        num_classes: K.
        label_smoothing: share of the target that is spread over all classes (Szegedy et al. 2016), in [0,1).
        mixup, cutmix: how training images are mixed, see `Mix`.
        class_weights: how much an image counts in training by its class: K numbers; "balanced" for as much as the
            classes are rare in the training images, 1 on average; None for 1.
        focal: the exponent of the focal loss, see `losses.cross_entropy`; 0 = off.
        sam: the radius of sharpness-aware minimisation, see `Sharpness`; 0 = off.
        unfreeze: for so many epochs each group of layers trains before the one before it joins, see `Unfreezing`; 0 for
            all from the start.
        test_flip: whether scores are the means of those of an image and of its mirror image, in evaluation.
        top_k: how many guesses a further accuracy counts as right; None for 5 where there are more classes.
        training: see `Module`.

    Attributes:
        temperature: what scores are divided by in evaluation, see `action=calibrate`.

    Raises:
        InputError: a number out of its range.
    """

    contract = Classifier
    kind = "recognise"
    needs = frozenset({"labels"})
    sees_degraded_size = True
    takes_teacher = True  # see `Training.teacher`
    monitor = "val/accuracy"
    mode = "max"

    def __init__(
        self,
        net: nn.Module,
        num_classes: int,
        training: Training,
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        class_weights: str | Sequence[float] | None = None,
        focal: float = 0.0,
        sam: float = 0.0,
        unfreeze: int = 0,
        test_flip: bool = False,
        top_k: int | None = None,
    ) -> None:
        super().__init__(net, training)
        require_share("label_smoothing", label_smoothing)
        require_number("focal", focal, 0, 100)
        self.mix, self.sharpness = Mix(mixup, cutmix), Sharpness(sam)
        self.on_after_backward = self.sharpness.descend if self.sharpness else None
        self.unfreezing = Unfreezing(unfreeze, net)
        self.on_before_optimizer_step = self.unfreezing.forget if self.unfreezing else None
        self.focal, self.test_flip = focal, test_flip
        self.balanced = class_weights == "balanced"
        weights = None if self.balanced else _weights_of(class_weights, num_classes)
        self.register_buffer("class_weights", weights, persistent=False)
        if top_k is not None:
            require_whole("top_k", top_k, 1, num_classes)
        self.top_k = (5 if num_classes > 5 else None) if top_k is None else top_k
        self.measures = () if self.top_k is None else (top_of(self.top_k),)  # type: ignore[misc]
        self.temperature = 1.0
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing

    def step(self, pair: Pair) -> Outcome:
        """Recognise and compare."""
        if self.training:
            return Outcome(self._training_loss(pair))
        logits = self.predict(pair)
        loss = F.cross_entropy(losses.wide(logits), pair.label, reduction="none")
        probability = losses.wide(logits).softmax(1)
        columns = {
            "prediction": metrics.predicted(logits),
            "confidence": probability.amax(1),
            "label": pair.label,
            "rank": classes.rank_of_label(logits, pair.label),
            "brier": classes.brier(probability, pair.label),
            "probability": probability,
        }
        return Outcome(loss, columns=columns)

    def _training_loss(self, pair: Pair) -> Tensor:
        """Return the loss (B,) of images that are mixed where that is asked for, as are those that a teacher sees."""
        images, targets = pair.degraded, F.one_hot(pair.label, self.num_classes).float()
        if self.mix:  # else no keys are made, which takes longer than the loss of a small batch
            images, targets = self.mix(images, targets, self.keys(pair, "mix"))
        weights: Any = self.class_weights
        logits, heat = self(images), self.options.teacher_temperature
        loss = losses.cross_entropy(logits, targets, weights, self.label_smoothing, self.focal)
        mixed = pair._replace(degraded=images)
        return self.options.taught(loss, mixed, lambda taught: losses.soft_targets(logits, taught, heat))

    def on_fit_start(self) -> None:
        """Count the classes of the training images, where they are to be balanced; show some to a net that asks."""
        if self.unfreezing:
            say(self._unfreezing_in_words())
        if fit := getattr(self.net, "fit_to", None):
            fit(sample(self.trainer).to(self.device))
        if self.balanced:
            self.class_weights = balanced(self.trainer, self.num_classes).to(self.device)

    def training_step(self, pair: Pair, batch_idx: int) -> Tensor | None:
        """Compute the loss to minimise, see `Module`; with `sam`, at the worst weights nearby."""
        if self.unfreezing:
            self.unfreezing.begin(self.current_epoch, self.trainer.world_size > 1)
        loss = super().training_step(pair, batch_idx)
        if loss is None or not self.sharpness:
            return loss
        self.sharpness.climb(loss, self.net)
        with statistics_kept(self.net):
            return self.penalised(self.step(pair).loss.mean())

    def on_train_end(self) -> None:
        """Hold nothing any more: what a net costs counts all its weights."""
        self.unfreezing.end()

    def _unfreezing_in_words(self) -> str:
        unfreezing, most = self.unfreezing, self.trainer.max_epochs or -1
        each = f"{unfreezing.epochs} epochs" if unfreezing.epochs > 1 else "epoch"
        few = f", and there are {most}" if 0 < most <= unfreezing.last else ""
        return (
            f"unfreeze: of {len(unfreezing.groups)} groups of layers the last trains at first, one more each {each}, "
            f"all from epoch {unfreezing.last + 1} on{few}"
        )

    def predict(self, pair: Pair) -> Tensor:
        """Return the scores (B,K), calibrated where the run was."""
        logits: Tensor = self(pair.degraded)
        if self.training:
            return logits
        if self.test_flip:
            logits = (logits + self(pair.degraded.flip(3))) / 2
        return logits if self.temperature == 1 else logits / self.temperature

    def read_more(self, folder: Path) -> None:
        """Read the temperature of a calibrated run, see `Module`."""
        self.temperature = calibrated.read(folder)

    def conclude(self, columns: dict[str, Tensor]) -> dict[str, float]:
        """Accuracy, plain, balanced and of the first k guesses; macro precision, recall and F1; AUROC; calibration."""
        prediction, label, rank = (columns[name].long() for name in ("prediction", "label", "rank"))
        found = metrics.classification(prediction, label, self.num_classes)
        known = (label >= 0) & (prediction >= 0)
        confidence, right = columns["confidence"][known], (prediction == label)[known]
        found |= {"auroc": classes.auroc(columns["probability"], label)}
        found |= {"ece": classes.calibration_error(confidence, right)}
        found |= {"rmsce": classes.calibration_error(confidence, right, "l2")}
        found |= {"mce": classes.calibration_error(confidence, right, "max")}
        if self.top_k is not None:
            found[f"top_{self.top_k}"] = (rank[label >= 0] <= self.top_k).double().mean().item()
        return found | ({"temperature": self.temperature} if self.temperature != 1 else {})

    def resampled(self, columns: dict[str, Tensor]) -> dict[str, tuple[float, float]]:
        """Intervals of the shares of images that are right by Wilson's formula, of all else by bootstrap."""
        prediction, label = (columns[name].long() for name in ("prediction", "label"))
        known = (label >= 0) & (prediction >= 0)
        if not known.any():
            return {}
        given = columns["probability"][known], prediction[known], label[known]
        found = resampled.intervals(*given, {name: columns[name][known] for name in ("loss", "brier")})
        right = {"accuracy": prediction == label}
        right |= {} if self.top_k is None else {f"top_{self.top_k}": columns["rank"] <= self.top_k}
        low, high = wilson(np.array([int(each[known].sum()) for each in right.values()]), int(known.sum()))
        found |= dict(zip(right, zip(low.tolist(), high.tolist(), strict=True), strict=True))
        return {name: (self.rows[name].clip(low), self.rows[name].clip(high)) for name, (low, high) in found.items()}

    def artifacts(self, columns: dict[str, Tensor]) -> dict[str, Artifact]:
        """The confusion matrix, as a table and as a picture; the scores of each class; the reliability diagram."""
        table = metrics.confusion(columns["prediction"].long(), columns["label"].long(), self.num_classes)
        names = self.class_names if "truth" not in self.class_names else ()
        names = names or tuple(map(str, range(self.num_classes)))
        rows = [{"truth": truth, **dict(zip(names, row, strict=True))}
                for truth, row in zip(names, table.tolist(), strict=True)]  # fmt: skip
        prediction, label = (columns[name].long() for name in ("prediction", "label"))
        known = (label >= 0) & (prediction >= 0)
        diagram = reliability.diagram(columns["confidence"][known].numpy(), (prediction == label)[known].numpy())
        return {
            "confusion": rows,
            "classes": classes.of_each(prediction[known], label[known], names),
            "images/confusion": draw.heatmap(table, names),
            "images/reliability": diagram,
        }

    def badness(self, columns: dict[str, Tensor]) -> Tensor:
        """The confidence in the class of the images for which it is the wrong one."""
        return columns["confidence"].where(columns["prediction"] != columns["label"], math.nan)


def _weights_of(weights: Any, num_classes: int) -> Tensor | None:
    """Make the weights of classes (K,) of a setting, or None; raises InputError where it gives none."""
    if weights is None:
        return None
    if not isinstance(weights, Sequence) or isinstance(weights, str) or len(weights) != num_classes:
        raise InputError(f"class_weights: {weights!r} is unknown; give {num_classes} numbers, balanced or null")
    for weight in weights:
        require_number("class_weights", weight)
    if not any(weights):
        raise InputError("class_weights: all are 0; give a class a weight above 0")
    return torch.tensor(weights, dtype=torch.float32)


def balanced(trainer: Any, num_classes: int) -> Tensor:
    """Weigh classes (K,) by how rare they are in the images of a training, so that their mean over these is 1.

    Raises:
        InputError: how many there are is not known before they are read.
    """
    label = getattr(trainer.datamodule.load().train, "label", None)
    if label is None:
        raise InputError(
            "model.class_weights: shards are not counted before they are read; give a number for each class"
        )
    counts = torch.bincount(label[label >= 0].cpu(), minlength=num_classes)
    return (counts.sum() / (counts > 0).sum() / counts).where(counts > 0, 0).float()


def sample(trainer: Any) -> Tensor:
    """Return some degraded training images (N,C,H,W), drawn by key and the same on every rank; at least one."""
    data: DataModule = trainer.datamodule
    train = data.load().train
    count = max(1, _SHOWN // math.prod(data.task.shape[1:]))
    loader = train.loader("validation", count, data.degradation, crop=data.evaluation_crop)
    if not isinstance(loader, PairLoader):
        return next(iter(loader)).degraded
    return loader.pair(keyed.permutation(0, "shown", 0, len(train))[:count]).degraded
