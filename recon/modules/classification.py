"""Classification: recognise the degraded image."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from recon import losses, metrics
from recon.modules.base import Module
from recon.modules.outcome import Artifact, Outcome
from recon.nets.contracts import Classifier
from recon.pair import Pair
from recon.ranges import require_share
from recon.runs import draw
from recon.training.options import Training


class ClassificationModule(Module):
    """Tell the class of the degraded image by softmax cross-entropy.

    Args:
        net: (B,C,H,W) -> (B,K) logits.
        num_classes: K.
        label_smoothing: share of the target that is spread over all classes (Szegedy et al. 2016), in [0,1).
        training: see `Module`.

    Raises:
        InputError: a number out of its range.
    """

    contract = Classifier
    kind = "recognise"
    needs = frozenset({"labels"})
    sees_degraded_size = True
    monitor = "val/accuracy"
    mode = "max"

    def __init__(
        self,
        net: nn.Module,
        num_classes: int,
        training: Training,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(net, training)
        require_share("label_smoothing", label_smoothing)
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing

    def step(self, pair: Pair) -> Outcome:
        """Recognise and compare."""
        logits = self(pair.degraded)
        smoothing = self.label_smoothing if self.training else 0.0
        loss = F.cross_entropy(losses.wide(logits), pair.label, reduction="none", label_smoothing=smoothing)
        if self.training:
            return Outcome(loss)
        confidence = losses.wide(logits).softmax(1).amax(1)
        columns = {"prediction": metrics.predicted(logits), "confidence": confidence, "label": pair.label}
        return Outcome(loss, columns=columns)

    def conclude(self, columns: dict[str, Tensor]) -> dict[str, float]:
        """Accuracy and macro precision, recall and F1."""
        return metrics.classification(columns["prediction"].long(), columns["label"].long(), self.num_classes)

    def artifacts(self, columns: dict[str, Tensor]) -> dict[str, Artifact]:
        """The confusion matrix, as a table and as a picture."""
        table = metrics.confusion(columns["prediction"].long(), columns["label"].long(), self.num_classes)
        names = self.class_names if "truth" not in self.class_names else ()
        names = names or tuple(map(str, range(self.num_classes)))
        rows = [{"truth": truth, **dict(zip(names, row, strict=True))}
                for truth, row in zip(names, table.tolist(), strict=True)]  # fmt: skip
        return {"confusion": rows, "images/confusion": draw.heatmap(table, names)}

    def badness(self, columns: dict[str, Tensor]) -> Tensor:
        """The loss of the images whose class is predicted wrong."""
        return columns["loss"].where(columns["prediction"] != columns["label"], math.nan)
