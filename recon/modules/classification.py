"""Classification: recognise the degraded image."""

import math
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from recon import losses, metrics
from recon.measures import top_of
from recon.metrics import classes
from recon.modules.base import Module
from recon.modules.outcome import Artifact, Outcome
from recon.nets.contracts import Classifier
from recon.pair import Pair
from recon.ranges import require_share, require_whole
from recon.runs import calibrated, draw, reliability
from recon.training.options import Training


class ClassificationModule(Module):
    """Tell the class of the degraded image by softmax cross-entropy.

    Args:
        net: (B,C,H,W) -> (B,K) logits.
        num_classes: K.
        label_smoothing: share of the target that is spread over all classes (Szegedy et al. 2016), in [0,1).
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
        top_k: int | None = None,
    ) -> None:
        super().__init__(net, training)
        require_share("label_smoothing", label_smoothing)
        if top_k is not None:
            require_whole("top_k", top_k, 1, num_classes)
        self.top_k = (5 if num_classes > 5 else None) if top_k is None else top_k
        self.measures = () if self.top_k is None else (top_of(self.top_k),)  # type: ignore[misc]
        self.temperature = 1.0
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing

    def step(self, pair: Pair) -> Outcome:
        """Recognise and compare."""
        logits = self.predict(pair)
        smoothing = self.label_smoothing if self.training else 0.0
        loss = F.cross_entropy(losses.wide(logits), pair.label, reduction="none", label_smoothing=smoothing)
        if self.training:
            heat = self.options.teacher_temperature
            return Outcome(self.options.taught(loss, pair, lambda taught: losses.soft_targets(logits, taught, heat)))
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

    def predict(self, pair: Pair) -> Tensor:
        """Return the scores (B,K), calibrated where the run was."""
        logits: Tensor = self(pair.degraded)
        return logits if self.training or self.temperature == 1 else logits / self.temperature

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
        found |= {"mce": classes.calibration_error(confidence, right, "max")}
        if self.top_k is not None:
            found[f"top_{self.top_k}"] = (rank[label >= 0] <= self.top_k).double().mean().item()
        return found | ({"temperature": self.temperature} if self.temperature != 1 else {})

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
        """The loss of the images whose class is predicted wrong."""
        return columns["loss"].where(columns["prediction"] != columns["label"], math.nan)
